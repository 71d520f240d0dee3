"""The Django app whose models must stand in a module of their own; all else is in django_app."""
