"""Builds in a temporary folder, so that pip leaves nothing in the checkout.

All other settings are in setup.cfg.
"""

import tempfile

from setuptools import setup

with tempfile.TemporaryDirectory() as folder:
    setup(options={"build": {"build_base": folder}, "egg_info": {"egg_base": folder}})
