"""Layout of the converted script: jinja2 templates, rendered by `lightify.render` only."""
