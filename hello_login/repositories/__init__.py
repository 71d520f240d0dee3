"""All SQL there is: one module for each table.

Each function takes the connection first, binds its parameters, and leaves the transaction to its
caller.
"""
