"""The call transfer module: which mailbox, which home server, is it remote?"""
