"""A password with signs that addresses and shells treat in their own ways, and where it shows."""

import base64

PASSWORD = "p@ss#1/ %"
# Any part of it that could be recognized.
PIECES = ("p@ss", "ss#1", "p%40ss", "ss%231", base64.b64encode(b"admin:" + PASSWORD.encode()).decode())


def password_file(folder, text=PASSWORD + "\n", mode=0o600):
    path = folder / "password"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    path.chmod(mode)
    return path


def leaks(*texts, pieces=PIECES):
    return [(piece, text) for text in texts for piece in pieces if piece in text]
