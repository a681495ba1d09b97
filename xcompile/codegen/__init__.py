"""Graph -> Plan: a kernel per launch through Jinja templates, arguments, arena lifetimes.

The only jinja2 environment of the project. Templates get named values; arithmetic and policy
stay in Python.
"""
