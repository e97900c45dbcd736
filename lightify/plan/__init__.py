"""Analysis + Settings -> Plan: every decision and refusal; sees no text."""
