"""The actions of accounts, without HTTP and without SQL."""
