"""Finds the packages: three folders of the repository make one package, which pyproject.toml cannot express."""

from setuptools import find_packages, setup

FOLDERS = {"lightify": "lightify", "lightify.runtime": "runtime", "lightify.templates": "templates"}

setup(
    package_dir=FOLDERS,
    packages=[
        name
        for root, folder in FOLDERS.items()
        for name in (root, *(f"{root}.{below}" for below in find_packages(folder)))
    ],
    package_data={"lightify": ["py.typed"], "lightify.templates": ["*.jinja", "**/*.jinja"]},
)
