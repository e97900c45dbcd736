"""Layout of generated code (jinja2)."""
