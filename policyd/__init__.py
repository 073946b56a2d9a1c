"""policyd: says, for Postfix, who may receive mail from the Internet and who may send mail to it."""

__version__ = "0.1.0"
