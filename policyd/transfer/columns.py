"""Which columns and keys of other programs are nobody's business here, and which known one a stranger may mean."""

import re
from collections.abc import Iterable, Sequence

from policyd.errors import TransferError
from policyd.records import Notice

HOW_TO_LEAVE_OUT = "to leave one out, write a # in front of its name"

_IGNORED = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[\s_.\-/:'\"]+")  # `E-Mail_Address [Required]` is emailaddress
_SHOWN = 20  # in a notice
_SIMILARITY = 0.75  # of difflib: recieve is receive, adresses is addresses
# What people, Active Directory and Exchange say of somebody that has nothing to do with who may write to whom.
_WORDS = """
abteilung acceptmessagesonlyfromdlmemberswithdisplaynames acceptmessagesonlyfromsendersormemberswithdisplaynames
acceptmessagesonlyfromwithdisplaynames accountexpirationdate accountexpires accountnotdelegated addressbookpolicy
addresslistmembership adminaudit admincount admindescription admindisplayname age aggregatedmailboxguids
allowedattributes allowedchildclasses alternateemail anrede anrpolicy apartment arbitrationmailbox archivedatabase
archivedomain archiveguid archivename archiverelease archivestate archivestatus area assistant assistantname auditadmin
auditdelegate auditlogagelimit auditowner autoexpandingarchive badlogoncount badpasswordtime badpwdcount bemerkung
bemerkungen birthdate birthday building businessaddress businessphone businessphones bypassmoderationfrom
bypassmoderationfromdlmembers bypassmoderationfromsendersormembers bypassnestedmoderationenabled c
calendarrepairdisabled calendarversionstoredisabled cannotchangepassword canonicalname carlicense cellphone city class
co codepage company compliancetagholdapplied computername conditionalcompany conditionaldepartment conferenceroom
contactid costcenter costcentre country countrycode countryorregion created createtimestamp creationdate creatorsname
currentorganization databasecopyautoactivationpolicy datacenterserver datejoined dateofbirth defaultpublicfoldermailbox
delayholdapplied delayreleaseholdapplied deliverandredirect department departmentnumber desc description desktopprofile
destinationindicator directreports disabledarchivedatabase disabledarchiveguid disabledmailboxlocations displayname
displaynameprintable division donotemailreports dscorepropagationdata dynamicldapserver effectivepublicfoldermailbox
employeeid employeenumber employeetype enabled enddateforretentionhold entrycsn entrydn entryuuid exchangeguid
exchangeobjectid exchangesecuritydescriptor exchangeuseraccountcontrol exchangeversion expansionserver extension
externaldirectoryobjectid externalid facsimiletelephonenumber fax faxnumber firma firstname floor forwardingaddress
forwardingsmtpaddress fullname garbagecollperiod gecos gender generatedofflineaddressbooks generationqualifier gidnumber
givenname grantsendonbehalfto groupcategory groupscope grouptype guid handy haschildren hasmailboxsettings
hasmasteredncs hasphoto hassubordinates hiddenfromaddresslistsenabled hiddenprimarysmtpaddress homedirectory
homedirrequired homedrive homefax homemdb homemta homemtabl homepage homephone homepostaladdress houseidentifier hrid id
image immutableid info initials inplaceholds instancetype internationalisdnnumber internetencoding ipphone isactive
iscriticalsystemobject isdeleted isdirsynced isfiltered islinked islocked isresource isshared isvalid jobfunction
jobtitle joinedprotectedgroups jpegphoto kostenstelle kurzzeichen l labeleduri landline lang language languages
languageslocale lastbadpasswordattempt lastchanged lastexchangechangedtime lastknownparent lastlogoff lastlogon
lastlogondate lastlogontimestamp lastmodified lastname lastsync ldaprecipientfilter legacyexchangedn legacyid lineuri
litigationholddate litigationholdduration litigationholdowner location locked lockedout lockouttime loginshell
logoncount logonhours logonworkstations mailboxcontainerguid mailboxguid mailboxlocations mailboxmovebatchname
mailboxmoveflags mailboxmoveremotehostname mailboxmovesourcemdb mailboxmovestatus mailboxmovetargetmdb mailboxplan
mailboxprovisioningconstraint mailboxprovisioningpreferences mailboxregion mailboxrelease maildatabase maileduser
mailtip mailtiptranslations managedby managedobjects manager mapirecipient masteredby maxblockedsenders maxreceivesize
maxsafesenders maxsendsize mdbusedefaults memberdepartrestriction memberjoinrestriction memberof memo
messagetrackingreadstatusenabled microsoftonlineservicesid middlename mobile mobilenumber mobilephone mobiltelefon
moddate moderatedby modified modifiersname modifytimestamp msdrm msexcharchivename nachname netid netidentity nickname
note notes nr ntsecuritydescriptor number o oabgen objectcategory objectcategoryname objectguid objectid objectsid
objectstate objectversion office officelocation officephone offlineaddressbook operatorcount orderid organisation
organization organizationalunit organizationid organizationname orgid originatingserver ort otherfacsimile
otherfacsimiletelephonenumber otherhomephone otheripphone othermobile othername othernames otherpager otherphone
othertelephone ou pager passwordexpired passwordlastset passwordneverexpires passwordnotrequired persistedcapabilities
persistedcapability persnr personalnummer personaltitle personnelnumber phone phonenumber phoneticdisplayname photo
physicaldeliveryofficename picture pitrcopyintervalinseconds pitrenabled plz pobox poboxnumber poolname position
postaladdress postalcode postofficebox preferreddeliverymethod preferredlanguage primarygroup primarygroupid
primarygrouptoken profilepath protocolsettings province pscomputername psshowcomputername publicdelegates
publicdelegatesbl publicfoldercontentmailbox pwdchangedtime pwdlastset realname recipientcontainer recipientfilter
recipientfiltertype recipientlimits recipientthrottlingthreshold reconciliationid recordid registeredaddress
rejectmessagesfromdlmemberswithdisplaynames rejectmessagesfromsendersormemberswithdisplaynames
rejectmessagesfromwithdisplaynames remoterecipienttype replicatedobjectversion replicationsignature
reporttomanagerenabled reporttooriginator reporttooriginatorenabled reporttoowner resetpasswordonnextlogon
resourcecapacity resourcecustom resourcetype retaindeleteditemsfor retaindeleteditemsuntilbackup retentioncomment
retentionpolicy retentionurl role roleassignmentpolicy room roomnumber rulesquota runspaceid salutation samaccounttype
scriptpath seealso sendmoderationnotifications sendoofmessagetooriginatorenabled serverlegacydn servername sex
sharingpolicy showinaddressbook sid sidhistory siloname simpledisplayname singleitemrecoveryenabled site skumap
smartcardlogonrequired sn sourceanchor st startdateforretentionhold state stateorprovince storequota strasse street
streetaddress structuralobjectclass subschemasubentry supervisor surname systemflags team telefon telephone
telephoneassistant telephonenumber telephones teletexterminalidentifier telexnumber textencodedoraddress
throttlingpolicy thumbnaillogo thumbnailphoto timestamp timezone title trustedfordelegation uidnumber umdtmfmap
unifiedmailbox unit unixhomedirectory updated upgradestatus uri url usagelocation usedatabasequotadefaults
usedatabaseretentiondefaults useraccountcontrol usercertificate userdn userid userparameters userpassword userpkcs12
userprincipalname usersharedfolder usersmimecertificate userworkstations usnchanged usncreated usnlastobjrem vorname
wasinactivemailbox wbempath web webpage website whenchanged whenchangedutc whencreated whencreatedutc whenmailboxcreated
whensoftdeleted windowsliveid workphone workstations www wwwhomepage x121address zip zipcode
"""
_LEFT_OUT = frozenset(_WORDS.split())
# Whole families of them: what Exchange and others add to the directory, and switches, sizes and times of a mailbox.
_FAMILIES = re.compile(
    r"(?:msexch|msds|msrtc|mspki|msnp|msts|msfve|mssfu|msmq|mssfu|sfu|unix|extensionattribute|customattribute"
    r"|extensioncustomattribute|conditionalcustomattribute|mailboxmove|mailboxprovisioning|litigation|audit|archive"
    r"|retention|calendar|usn|delivcont|submissioncont|dlmemdefault|garbagecoll|auto(?:reply|discover))\w*"
    r"|\w*(?:quotas?|enabled|disabled|guids?|sids?|photo|certificate|phone|utc|withdisplaynames|timestamp)",
)


def key_of(name: str) -> str:
    """The name of a column as it is compared: without case, blanks, hyphens and what stands in brackets."""
    return _IGNORED.sub("", name.lower())


def is_left_out(name: str) -> bool:
    """Whether the column *name* may be left out: it is known to be nobody's business here, or somebody says so."""
    key = key_of(name)
    return name.lstrip().startswith("#") or not key or key in _LEFT_OUT


def is_in_family(name: str) -> bool:
    """Whether the column *name* is of a kind that may be left out, unless it is nearly one that may not."""
    return _FAMILIES.fullmatch(key_of(name)) is not None


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of *known* that *name* is probably meant to be; "" if there is none."""
    from difflib import get_close_matches  # a file without a slip needs it not

    keys = {key_of(each): each for each in known}
    found = get_close_matches(key_of(name), keys, n=1, cutoff=_SIMILARITY)
    return keys[found[0]] if found else ""


def guess(name: str, known: Iterable[str]) -> str:
    """A question in a sentence, whether the nearest of *known* is meant; "" if there is none."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""


def leave_out(line: int, names: Sequence[str], known: Sequence[str], *, is_lenient: bool = False) -> list[Notice]:
    """A notice about the columns *names*, of the header at *line*, which are none of *known*: they are left out.

    Raises TransferError where one may be a slip, or is a stranger; with *is_lenient* strangers may be there.
    """
    strangers = [name for name in names if not is_left_out(name)]
    slips = {name: meant for name in strangers if (meant := nearest(name, known))}
    if not is_lenient:
        slips |= {name: "" for name in strangers if name not in slips and not is_in_family(name)}
    if slips:
        guesses = [f"{name[:100]!a}" + (f" (did you mean {meant}?)" if meant else "") for name, meant in slips.items()]
        raise TransferError(
            f"line {line}: unknown column{'s' if len(slips) > 1 else ''} {', '.join(guesses)}; nothing was imported. "
            f"The columns are {', '.join(known)}; {HOW_TO_LEAVE_OUT}"
        )
    found = [name for name in names if name]
    if not found:
        return []
    shown = ", ".join(ascii(name[:60])[1:-1] for name in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
    count = "1 column is" if len(found) == 1 else f"{len(found)} columns are"
    return [Notice(line, f"{count} left out, of no use to policyd: {shown}")]
