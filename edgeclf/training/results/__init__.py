"""A model's results on labeled images, as a folder to send on: report.html, report.json, predictions.csv."""
