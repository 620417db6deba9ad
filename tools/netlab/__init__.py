"""The lab: real hosts in network namespaces. See lab.py for the Python API and ../lab for the command."""
