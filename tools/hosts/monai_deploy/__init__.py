"""MONAI Deploy: an application for every packed bundle (`app`), and the environment that runs it."""
