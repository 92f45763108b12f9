"""Train the demo's two models and lay them out as an MLServer model repository. Downloads nothing.

Usage: python train.py DIRECTORY. `digits` is a classifier of 8 × 8 images of handwritten digits (the data set that
scikit-learn ships); `topics` tells what a support ticket is about (tickets.tsv). DIRECTORY/samples.json receives
images that training never saw and what the trained model itself says of them, for the client to compare.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

HERE = Path(__file__).resolve().parent
SEED = 7
SAMPLES = 32  # images for the client


def digits(directory: Path) -> dict[str, object]:
    """Train the classifier of digits. Returns its accuracy on images held out, and samples of these."""
    images, labels = load_digits(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(images, labels, test_size=0.3, random_state=SEED)
    model = SVC(gamma=0.001).fit(seen, seen_labels)
    _publish(model, directory, "mlserver_sklearn.SKLearnModel")
    samples = unseen[:SAMPLES]
    return {
        "accuracy": float(model.score(unseen, unseen_labels)),
        "images": samples.tolist(),
        "answers": model.predict(samples).tolist(),
    }


def topics(directory: Path) -> dict[str, object]:
    """Train the classifier of tickets. Returns how many tickets it learnt from."""
    rows = [line.split("\t") for line in (HERE / "tickets.tsv").read_text("utf-8").splitlines()]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, stop_words="english"), LogisticRegression(C=20.0)
    )
    model.fit([text for _, text in rows], [topic for topic, _ in rows])
    _publish(model, directory, "topics.Topics")
    shutil.copy(HERE / "topics.py", directory)
    return {"tickets": len(rows)}


def _publish(model: object, directory: Path, implementation: str) -> None:
    directory.mkdir(parents=True)
    joblib.dump(model, directory / "model.joblib")
    settings = {"name": directory.name, "implementation": implementation, "parameters": {"uri": "./model.joblib"}}
    (directory / "model-settings.json").write_text(json.dumps(settings), "utf-8")


def main() -> None:
    directory = Path(sys.argv[1])
    report = {"digits": digits(directory / "digits"), "topics": topics(directory / "topics")}
    (directory / "samples.json").write_text(json.dumps(report), "utf-8")


if __name__ == "__main__":
    main()
