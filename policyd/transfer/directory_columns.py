"""The columns of a directory's table, as csvde and PowerShell write it: by them one knows such a file."""

from collections.abc import Sequence

from policyd.transfer.columns import key_of

# The attribute that a column is, by its name as it is compared; "" where it only helps to find who is meant.
ATTRIBUTES = {
    "dn": "dn",
    "distinguishedname": "dn",
    "mailnickname": "mailnickname",
    "alias": "mailnickname",
    "uid": "uid",
    "cn": "cn",
    "name": "cn",
    "samaccountname": "samaccountname",
    "identity": "identity",
    "displayname": "identity",
    "mail": "mail",
    "email": "mail",
    "emailaddress": "mail",
    "primarysmtpaddress": "mail",
    "primaryemail": "mail",
    "windowsemailaddress": "mail",
    "proxyaddresses": "proxyaddresses",
    "emailaddresses": "proxyaddresses",
    "othermailbox": "othermailbox",
    "targetaddress": "targetaddress",
    "externalemailaddress": "targetaddress",
    "objectclass": "objectclass",
    "recipienttype": "objectclass",
    "recipienttypedetails": "objectclass",
    "member": "member",
    "members": "member",
    "uniquemember": "uniquemember",
    "authorig": "authorig",
    "acceptmessagesonlyfrom": "authorig",
    "acceptmessagesonlyfromsendersormembers": "authorig",
    "dlmemsubmitperms": "dlmemsubmitperms",
    "acceptmessagesonlyfromdlmembers": "dlmemsubmitperms",
    "unauthorig": "unauthorig",
    "rejectmessagesfrom": "unauthorig",
    "rejectmessagesfromsendersormembers": "unauthorig",
    "dlmemrejectperms": "dlmemrejectperms",
    "rejectmessagesfromdlmembers": "dlmemrejectperms",
    "msexchrequireauthtosendto": "msexchrequireauthtosendto",
    "requiresenderauthenticationenabled": "msexchrequireauthtosendto",
}
_TELLING = frozenset({"dn", "mailnickname", "mail", "proxyaddresses", "othermailbox"})  # only a directory has these


def is_header(cells: Sequence[str]) -> bool:
    """Whether a header with *cells* is that of a directory, and not of our own columns."""
    keys = {key_of(cell) for cell in cells}
    is_own = not keys.isdisjoint({"addresses", "address", "kind", "sender"})
    return not is_own and any(ATTRIBUTES.get(key) in _TELLING for key in keys)
