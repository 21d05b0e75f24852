"""What pyproject.toml cannot say: the scripts and the demo lie beside the package and are installed within it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["qwen_model*", "qwen_eval*"]), "qwen_eval.scripts", "qwen_eval.demo"],
    package_dir={"qwen_eval.scripts": "eval", "qwen_eval.demo": "demo"},
)
