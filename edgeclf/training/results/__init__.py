"""A report of a model's results on labeled images, as a folder to share: report.html, report.json, predictions.csv."""
