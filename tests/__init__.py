"""Tests; the folders mirror the packages, and `peers` joins real clients and servers."""
