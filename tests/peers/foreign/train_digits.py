"""Trains a scikit-learn classifier on its digits and writes it: python train_digits.py FILE"""

import sys

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

digits = load_digits()
model = LogisticRegression(max_iter=200, tol=0.1).fit(digits.data / 16.0, digits.target)
joblib.dump(model, sys.argv[1])
