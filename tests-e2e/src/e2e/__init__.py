"""Black-box tests by URL and token; imports none of the services.

stack        find or start a stack, kill its processes
scim, admin  clients of the two surfaces
scenarios    a case file as data; paths and checks are its small languages
player       plays scenarios against a server
conformance  `make conformance`: all case files against any server, as a table
"""
