"""The server's page, in a real Chromium."""

import base64

import pytest


@pytest.fixture(scope="module")
def page(browser, client):
    browser.open(client.server.address)
    browser.wait_until("document.getElementById('model').options.length == 2")
    return browser


def choose(page, data):
    """Choose a file, as a user does in the dialog."""
    script = """
      const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0)), chosen = new DataTransfer();
      chosen.items.add(new File([bytes], "it.png", {type: "image/png"}));
      document.getElementById("file").files = chosen.files;
      document.getElementById("file").dispatchEvent(new Event("change"));
    """
    page.run(script, base64.b64encode(data).decode())


@pytest.mark.slow
def test_a_picture_is_shown_with_its_label_and_the_others(page, client, image):
    expected = client.post("/classify", image)[2]
    choose(page, image)
    page.wait_until(
        "document.getElementById('label').textContent.length == 1 && document.getElementById('top').children.length"
    )
    assert page.run("return document.getElementById('label').textContent") == expected["label"]
    rows = page.run("return [...document.querySelectorAll('li span:first-child')].map(one => one.textContent)")
    assert rows == [one["label"] for one in expected["top"]]
    page.wait_until("document.getElementById('picture').naturalWidth == 64")
    assert page.complaints() == []


@pytest.mark.slow
def test_a_file_that_is_not_an_image_is_an_error_in_words(page):
    choose(page, b"This is no photograph.")
    page.wait_until("document.querySelector('.failed')")
    assert "not an image" in page.run("return document.getElementById('note').textContent")


@pytest.mark.slow
def test_the_page_fits_a_phone_even_if_a_model_has_a_long_name(page):
    page.devtools("Emulation.setDeviceMetricsOverride", width=400, height=760, deviceScaleFactor=1, mobile=True)
    page.run("document.getElementById('model').options[1].text = 'a very long name of a model '.repeat(4)")
    assert page.run("return document.documentElement.scrollWidth") == 400


def test_the_page_loads_nothing_from_elsewhere(client):
    status, headers, text = client.get("/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"http://" not in text.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in text
