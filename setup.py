"""What policyd is, what it needs, and the command it installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
# The project's place in the web, until it has one: whatever else names it follows, as a test says.
HOME = "https://example.org/policyd"
PLACES = {"Homepage": "", "Documentation": "docs/", "Changes": "CHANGES.rst", "Security": "SECURITY.rst"}


def read_version() -> str:
    """Read the version from the package without importing it: its dependencies come later than this file."""
    source = (HERE / "policyd" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise SystemExit('policyd/__init__.py has no line of the form: __version__ = "1.2.3"')
    return found[1]


def read_description() -> str:
    """Read the README, with links that lead somewhere from the page of an index, too."""
    text = (HERE / "README.rst").read_text(encoding="utf-8")
    return re.sub(r"(?<=<)(?=(?:docs|contrib)/|[A-Z]+\.rst>)|(?<=:: )(?=docs/)", f"{HOME}/", text)


setup(
    name="policyd",
    version=read_version(),
    description="Postfix policy server: who may receive mail from the Internet, and who may send mail to it",
    long_description=read_description(),
    long_description_content_type="text/x-rst",
    author="The policyd developers",
    project_urls={name: f"{HOME}/{place}" for name, place in PLACES.items()},
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords=["postfix", "policy", "mail", "smtp", "access control"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Communications :: Email :: Mail Transport Agents",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # contrib/ stands at the top for who reads, and is in the package for `policyd setup`.
    packages=[*find_packages(include=["policyd", "policyd.*"]), "policyd.contrib"],
    package_dir={"policyd.contrib": "contrib"},
    package_data={
        "policyd": ["py.typed"],
        "policyd.contrib": ["*/*", "*/*/*"],
        "policyd.web": ["style.css", "static/*", "templates/*"],
    },
    include_package_data=False,
    install_requires=[
        "Twisted>=26.10,<27",
        "SQLAlchemy>=2.1",
        "alembic>=1.20,<2",
        "click>=8.4",
        "rich>=14.0",
        "idna>=3.10",
        "anyascii>=0.3.2",
    ],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.2.4,<4"],
        "web": ["prometheus_client>=0.22", "Jinja2>=3.1.6"],
        "test": [
            "psycopg[binary]>=3.2.4,<4",
            "prometheus_client>=0.22",
            "Jinja2>=3.1.6",
            "pytest~=9.0",
            "pytest-cov~=7.0",
            "coverage~=7.6",
            "pytest-xdist~=3.8",
            "hypothesis~=6.150",
            "docutils~=0.22",
            # To the last digit: each release brings new complaints about old code.
            "ruff==0.17.6",
            "mypy==2.4.1",
            "mypy-zope~=1.0.17",
        ],
        "docs": [
            "Sphinx~=9.0",
            "furo>=2025.12",
            "prometheus_client>=0.22",
        ],
        # What ./test --full makes wheel and sdist with, and what else tools/release and tools/requirements need.
        "build": ["build>=1.3", "setuptools>=77", "twine>=6.2"],
        "release": ["cyclonedx-bom>=7.2", "pip-audit>=2.9", "uv>=0.9"],
        # Debian's chromium is the browser: playwright's own need not be fetched.
        "browser": ["playwright>=1.60", "axe-playwright-python>=0.1.5"],
        # Where there is no wheel, the target runs without it, in ./test.
        "fuzz": [
            'atheris~=3.0; python_version < "3.14" and sys_platform == "linux" and platform_machine == "x86_64"',
        ],
    },
    entry_points={"console_scripts": ["policyd = policyd.cli:main"]},
    zip_safe=False,
)
