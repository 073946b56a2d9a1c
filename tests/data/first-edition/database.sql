PRAGMA application_id = 1886350436;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE accepted_sender (
	mailbox_id INTEGER NOT NULL, 
	pattern TEXT NOT NULL, 
	PRIMARY KEY (mailbox_id, pattern), 
	FOREIGN KEY(mailbox_id) REFERENCES mailbox (id) ON DELETE CASCADE
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "accepted_sender" VALUES(6,'@partner.example');
INSERT INTO "accepted_sender" VALUES(15,'@partner.example');
INSERT INTO "accepted_sender" VALUES(15,'vip@customer.example');
INSERT INTO "accepted_sender" VALUES(16,'<>');
INSERT INTO "accepted_sender" VALUES(16,'@.example.net');
INSERT INTO "accepted_sender" VALUES(20,'@partner.example');
CREATE TABLE address (
	address TEXT NOT NULL, 
	mailbox_id INTEGER NOT NULL, 
	is_primary INTEGER NOT NULL, 
	PRIMARY KEY (address), 
	CONSTRAINT address_is_primary CHECK (is_primary IN (0, 1)), 
	FOREIGN KEY(mailbox_id) REFERENCES mailbox (id) ON DELETE CASCADE
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "address" VALUES('a@b@example.com',17,1);
INSERT INTO "address" VALUES('again@example.com',18,1);
INSERT INTO "address" VALUES('al@example.com',1,0);
INSERT INTO "address" VALUES('alice@example.com',1,1);
INSERT INTO "address" VALUES('alice@example.org',1,0);
INSERT INTO "address" VALUES('b.boss@example.com',15,0);
INSERT INTO "address" VALUES('boss@example.com',15,1);
INSERT INTO "address" VALUES('ceo@example.com',16,1);
INSERT INTO "address" VALUES('colon@example.com',10,1);
INSERT INTO "address" VALUES('cs@example.com',21,1);
INSERT INTO "address" VALUES('i@example.org',20,0);
INSERT INTO "address" VALUES('imported@example.com',20,1);
INSERT INTO "address" VALUES('jane doe@example.com',3,1);
INSERT INTO "address" VALUES('joe@[198.51.100.7]',14,1);
INSERT INTO "address" VALUES('long@example.com',22,1);
INSERT INTO "address" VALUES('robert@example.com',2,1);
INSERT INTO "address" VALUES('sales@example.com',6,1);
INSERT INTO "address" VALUES('sales@example.org',7,1);
INSERT INTO "address" VALUES('second.ceo@example.com',19,1);
INSERT INTO "address" VALUES('staff@example.com',9,1);
INSERT INTO "address" VALUES('strasse@example.com',4,1);
INSERT INTO "address" VALUES('verylong@example.com',11,1);
INSERT INTO "address" VALUES('x=y@example.com',17,0);
INSERT INTO "address" VALUES('日本@xn--bcher-kva.example',5,1);
CREATE TABLE allowed_recipient (
	blocked_sender_id INTEGER NOT NULL, 
	pattern TEXT NOT NULL, 
	PRIMARY KEY (blocked_sender_id, pattern), 
	FOREIGN KEY(blocked_sender_id) REFERENCES blocked_sender (id) ON DELETE CASCADE
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "allowed_recipient" VALUES(2,'@partner.example');
INSERT INTO "allowed_recipient" VALUES(2,'team@example.com');
INSERT INTO "allowed_recipient" VALUES(3,'good@example.com');
INSERT INTO "allowed_recipient" VALUES(5,'postmaster@example.com');
CREATE TABLE blocked_sender (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	mailbox_id INTEGER, 
	pattern TEXT, 
	recipients TEXT, 
	recipient_mailbox_id INTEGER, 
	reason TEXT NOT NULL, 
	until INTEGER, 
	comment TEXT NOT NULL, 
	created_at INTEGER NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT blocked_sender_who CHECK ((mailbox_id IS NULL) <> (pattern IS NULL)), 
	CONSTRAINT blocked_sender_to CHECK ((recipients IS NULL) <> (recipient_mailbox_id IS NULL)), 
	CONSTRAINT blocked_sender_recipients CHECK (recipients IN ('outside', 'anyone')), 
	FOREIGN KEY(mailbox_id) REFERENCES mailbox (id) ON DELETE CASCADE, 
	FOREIGN KEY(recipient_mailbox_id) REFERENCES mailbox (id) ON DELETE CASCADE
)
 STRICT

;
INSERT INTO "blocked_sender" VALUES(1,1,NULL,'outside',NULL,'',NULL,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(2,3,NULL,'anyone',NULL,'left the company',NULL,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(3,NULL,'@evil.example','anyone',NULL,'',NULL,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(4,NULL,'spam@',NULL,15,'',NULL,'asked by the boss',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(5,NULL,'@.example.net','anyone',NULL,'',NULL,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(6,2,NULL,NULL,16,'',4102444800,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(7,17,NULL,'outside',NULL,'',1795636074,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(8,6,NULL,NULL,9,'',NULL,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(9,NULL,'<>',NULL,14,'',NULL,'',1795636071,'root');
INSERT INTO "blocked_sender" VALUES(10,NULL,'jane doe@example.com','anyone',NULL,'',NULL,'',1795636071,'root');
CREATE TABLE change (
	id INTEGER NOT NULL, 
	at INTEGER NOT NULL, 
	actor TEXT NOT NULL, 
	changeset INTEGER NOT NULL, 
	operation TEXT NOT NULL, 
	object TEXT NOT NULL, 
	"before" TEXT, 
	"after" TEXT, 
	digest TEXT NOT NULL, 
	PRIMARY KEY (id)
)
 STRICT

;
INSERT INTO "change" VALUES(1,1795636068,'root',1,'domain.add','example.com',NULL,'{"name": "example.com", "unlisted": "reject"}','8d395cdfcef09727355e36485d3e8644233ef61abcefab2b4c0a5842b6659a79');
INSERT INTO "change" VALUES(2,1795636068,'root',2,'domain.add','example.org',NULL,'{"name": "example.org", "unlisted": "accept"}','e0b72dde8dd7ed8e2d124f90cbe47839076ef1315d408f6f8573008807e20f22');
INSERT INTO "change" VALUES(3,1795636068,'root',3,'domain.add','xn--bcher-kva.example',NULL,'{"name": "xn--bcher-kva.example", "unlisted": "reject"}','6c06b8c16cf8cd74f84cedb5d1dee2d82049a050d89bffac0113c012cde2c27b');
INSERT INTO "change" VALUES(4,1795636068,'root',4,'domain.add','[198.51.100.7]',NULL,'{"name": "[198.51.100.7]", "unlisted": "reject"}','9e65abf77d4db7aec963bb8b78ce1f8747e3d7be4604cdb28a6271430cff350d');
INSERT INTO "change" VALUES(5,1795636068,'root',5,'domain.add','gone.example',NULL,'{"name": "gone.example", "unlisted": "reject"}','6cc02a3443769cb68168cedd5485c63f13249527934da15627907c38ab12a263');
INSERT INTO "change" VALUES(6,1795636068,'root',6,'mailbox.add','alice',NULL,'{"id": 1, "name": "alice", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','8854d6d6d9ae41d7c565d562537c2705695386f9b80a3570080cde627882c6d2');
INSERT INTO "change" VALUES(7,1795636068,'root',6,'address.add','alice@example.com',NULL,'{"address": "alice@example.com", "mailbox": "alice", "is_primary": true}','3851ca85d756f335d0d411b05f46514e6169c5c103fe83430264a8ba690559f2');
INSERT INTO "change" VALUES(8,1795636068,'root',6,'address.add','al@example.com',NULL,'{"address": "al@example.com", "mailbox": "alice", "is_primary": false}','100e2bd638f672cdd2ccc2c3544e9ea432748915572c620e1eac0b40826cdfd2');
INSERT INTO "change" VALUES(9,1795636068,'root',6,'address.add','alice@example.org',NULL,'{"address": "alice@example.org", "mailbox": "alice", "is_primary": false}','a1b5a1e5fde2dfa4bef4ea5a569d5b675136175b955659724201013e72e76e14');
INSERT INTO "change" VALUES(10,1795636068,'root',10,'mailbox.add','Bob',NULL,'{"id": 2, "name": "Bob", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','0221b7aafa867658055076a962ac959382cddea60ed02d2338a24aa1e4a37323');
INSERT INTO "change" VALUES(11,1795636068,'root',10,'address.add','bob@example.com',NULL,'{"address": "bob@example.com", "mailbox": "Bob", "is_primary": true}','fbdb803ba89ce67074cab32f519fa2228a7bf89559301e618c98c6cbe8403067');
INSERT INTO "change" VALUES(12,1795636068,'root',10,'address.add','bob@gone.example',NULL,'{"address": "bob@gone.example", "mailbox": "Bob", "is_primary": false}','bba3b7f0fefea0d8ec2f4c45b8ea324c466cc4d3a853abef17345e3b4f1b8949');
INSERT INTO "change" VALUES(13,1795636068,'root',13,'mailbox.add','Jane Doe',NULL,'{"id": 3, "name": "Jane Doe", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": "two   blanks"}','8ab541bbeee0e3c892e08b352396d5825e904f96e58d5c2f6ad0c4e4ea771a2c');
INSERT INTO "change" VALUES(14,1795636068,'root',13,'address.add','jane doe@example.com',NULL,'{"address": "jane doe@example.com", "mailbox": "Jane Doe", "is_primary": true}','25e5b4792bd5a8b3a39f789ff96da65ab2a6456a1a9f4b2c4893134bf6d03c26');
INSERT INTO "change" VALUES(15,1795636068,'root',15,'mailbox.add','Straße',NULL,'{"id": 4, "name": "Straße", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','78f1c57529f989f41b62d280b679eb36e4d60d17a32a670b0b19c6a911f74ae0');
INSERT INTO "change" VALUES(16,1795636068,'root',15,'address.add','strasse@example.com',NULL,'{"address": "strasse@example.com", "mailbox": "Straße", "is_primary": true}','1ecbb2f8d7e328b674c432f8eaae6a8241e6845a03183376c6506b638a75d6f2');
INSERT INTO "change" VALUES(17,1795636069,'root',17,'mailbox.add','日本',NULL,'{"id": 5, "name": "日本", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','a2842c79cdd0c8bb946e77976756e15b7d7d746a24dfeaeeecf078b865ecda1d');
INSERT INTO "change" VALUES(18,1795636069,'root',17,'address.add','日本@xn--bcher-kva.example',NULL,'{"address": "日本@xn--bcher-kva.example", "mailbox": "日本", "is_primary": true}','6c5bee1fd2fad085993eb511c49f5aae4c7f3045634fac7c1f862fd7585f347e');
INSERT INTO "change" VALUES(19,1795636069,'root',19,'mailbox.add','group:sales',NULL,'{"id": 6, "name": "group:sales", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','ffd75d68ec709e7256ca4ae3fc6c4422a7400e71991a2020dd1c51d0e6e2a8f3');
INSERT INTO "change" VALUES(20,1795636069,'root',19,'address.add','sales@example.com',NULL,'{"address": "sales@example.com", "mailbox": "group:sales", "is_primary": true}','32fc46046e18c75db589b55cd1dec2da52c728effd8c4521cf6487a54ab496c2');
INSERT INTO "change" VALUES(21,1795636069,'root',21,'mailbox.add','group-sales',NULL,'{"id": 7, "name": "group-sales", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','79148edc3b71dcec74f1ab61c06e06ed6a6d5790a52f9fd7600cd0da0b0f37ff');
INSERT INTO "change" VALUES(22,1795636069,'root',21,'address.add','sales@example.org',NULL,'{"address": "sales@example.org", "mailbox": "group-sales", "is_primary": true}','1fbdb2e81d5d2bac44061177361dd7235995fe5363de1a6895932b10c2f3fe04');
INSERT INTO "change" VALUES(23,1795636069,'root',23,'mailbox.add','group-sales-2',NULL,'{"id": 8, "name": "group-sales-2", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','0be5641949cfe690f133fcd8eef80fe6ce45c1aa1337e7764ba2a4b8f0f6099a');
INSERT INTO "change" VALUES(24,1795636069,'root',24,'mailbox.add','Group:All Staff',NULL,'{"id": 9, "name": "Group:All Staff", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','19da0cc5a67813cd59f76b8a08c91b1393c5728de6c9508029073d791edd1e26');
INSERT INTO "change" VALUES(25,1795636069,'root',24,'address.add','staff@example.com',NULL,'{"address": "staff@example.com", "mailbox": "Group:All Staff", "is_primary": true}','62bb58a581b91ccd52d0a530d536525d7e216c1734036a71d583121206e24f86');
INSERT INTO "change" VALUES(26,1795636069,'root',26,'mailbox.add','group:',NULL,'{"id": 10, "name": "group:", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','17a6b855145301da969449b06c233e517d73bed1e9e466c391263ac2e71ace08');
INSERT INTO "change" VALUES(27,1795636069,'root',26,'address.add','colon@example.com',NULL,'{"address": "colon@example.com", "mailbox": "group:", "is_primary": true}','9326578e54eb3b497ee58a030818e1d592dbabae777228cca3773efe03d92585');
INSERT INTO "change" VALUES(28,1795636069,'root',28,'mailbox.add','group:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',NULL,'{"id": 11, "name": "group:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','a073c3af612d97ce56cd92b241b51e698451ed3e56df8a3844e5ea251c0d32ae');
INSERT INTO "change" VALUES(29,1795636069,'root',28,'address.add','verylong@example.com',NULL,'{"address": "verylong@example.com", "mailbox": "group:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "is_primary": true}','5e22c4b7d5171373836fdfcd8378942ef45a2adc8ce978ed59f17e7115b666f2');
INSERT INTO "change" VALUES(30,1795636069,'root',30,'mailbox.add','group-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',NULL,'{"id": 12, "name": "group-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','fe6eaf766d607dc2b69e49cd0c7236ab3b462b6612efb14042134eea5572d768');
INSERT INTO "change" VALUES(31,1795636069,'root',31,'mailbox.add','no address',NULL,'{"id": 13, "name": "no address", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','6bbf3ded16fc86632781def4c333c10fe59f362de4de7f8e97e5ff2bb4fa35a7');
INSERT INTO "change" VALUES(32,1795636069,'root',32,'mailbox.add','literal',NULL,'{"id": 14, "name": "literal", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','378d56c95597b8f477eff7b2a0510bac5c4bd12dd890cf6c4a5c83a76194fbf9');
INSERT INTO "change" VALUES(33,1795636069,'root',32,'address.add','joe@[198.51.100.7]',NULL,'{"address": "joe@[198.51.100.7]", "mailbox": "literal", "is_primary": true}','d3485bc61f0011e83bc3bd4cc887dbaad67eab3dec5262836cb9c759eec7cd6d');
INSERT INTO "change" VALUES(34,1795636069,'root',34,'mailbox.add','boss',NULL,'{"id": 15, "name": "boss", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','b1302fe834b15aa32150f88aee185fdd38abb7339b44efeb4bdf5d9229978374');
INSERT INTO "change" VALUES(35,1795636069,'root',34,'address.add','boss@example.com',NULL,'{"address": "boss@example.com", "mailbox": "boss", "is_primary": true}','77b7e0634d33eae0b098cbe9fffde8e9c87f124d5dafdbda8da9c0a35548ece6');
INSERT INTO "change" VALUES(36,1795636069,'root',34,'address.add','b.boss@example.com',NULL,'{"address": "b.boss@example.com", "mailbox": "boss", "is_primary": false}','6ab9b2f44ab8360d2c3946d82fc15d6b49aef502f535d54b9b344a8fb7072532');
INSERT INTO "change" VALUES(37,1795636069,'root',37,'mailbox.add','ceo',NULL,'{"id": 16, "name": "ceo", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','581de210645801469a792860f624e80d7b29473b7999c9a46b9741bc7555243d');
INSERT INTO "change" VALUES(38,1795636069,'root',37,'address.add','ceo@example.com',NULL,'{"address": "ceo@example.com", "mailbox": "ceo", "is_primary": true}','e113f8424dfafc1d4f017229723708b9a276bfddb1caea26feab99281b2f3957');
INSERT INTO "change" VALUES(39,1795636069,'root',39,'mailbox.add','quoted',NULL,'{"id": 17, "name": "quoted", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','0618c74ef4f4da0e2c994a069128e3c87e42b6bbc6caddae5ce08546250adc98');
INSERT INTO "change" VALUES(40,1795636069,'root',39,'address.add','a@b@example.com',NULL,'{"address": "a@b@example.com", "mailbox": "quoted", "is_primary": true}','6b3d4ed00ada1cd99709ac1b9ddc58d1b4d9110870d4081b1654cf68e6382fd1');
INSERT INTO "change" VALUES(41,1795636069,'root',39,'address.add','x=y@example.com',NULL,'{"address": "x=y@example.com", "mailbox": "quoted", "is_primary": false}','b5ccbaf56aefe471eb8cc2368a932680fb7023e0f0d7d414ce6de3b461c1d16d');
INSERT INTO "change" VALUES(42,1795636069,'root',42,'mailbox.restrict','boss','{"id": 15, "name": "boss", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 15, "name": "boss", "receive": "nobody", "accept": ["@partner.example", "vip@customer.example"], "reason": "Bitte ans Büro", "until": null, "comment": ""}','ffc99883f6fed02cd36755b5fdd0984e9bf3e2ec51647047295f432ee58d3391');
INSERT INTO "change" VALUES(43,1795636070,'root',43,'mailbox.restrict','ceo','{"id": 16, "name": "ceo", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 16, "name": "ceo", "receive": "insiders", "accept": ["<>", "@.example.net", "news@"], "reason": "", "until": 4102444800, "comment": ""}','c67db7e40f87dbaed71c7e7e56cb598fc8da35df4f245068f0880021aa8d3c7c');
INSERT INTO "change" VALUES(44,1795636070,'root',44,'mailbox.restrict','Straße','{"id": 4, "name": "Straße", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 4, "name": "Straße", "receive": "insiders", "accept": [], "reason": "ended long ago", "until": 1795636073, "comment": ""}','60544a1f975e350697b1efc5ca01577bceb60737af94740fdeab69600b357704');
INSERT INTO "change" VALUES(45,1795636070,'root',45,'mailbox.restrict','group:sales','{"id": 6, "name": "group:sales", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 6, "name": "group:sales", "receive": "nobody", "accept": ["@partner.example"], "reason": "", "until": null, "comment": ""}','4af70c3957fc1b515d94702654c076b86c422f643a56d0f5df380bf830395620');
INSERT INTO "change" VALUES(46,1795636070,'root',46,'mailbox.restrict','alice','{"id": 1, "name": "alice", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 1, "name": "alice", "receive": "insiders", "accept": [], "reason": "", "until": null, "comment": ""}','fb636ba9805c849ef8d68e0c013ea3441cce1cd02f7adecbc2c67699a44312da');
INSERT INTO "change" VALUES(47,1795636070,'root',47,'mailbox.lift','alice','{"id": 1, "name": "alice", "receive": "insiders", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 1, "name": "alice", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','4dfbf7b962b56a5d1da0649d26ca3d7cdb16c453a3981388f2ab308c9bc86c25');
INSERT INTO "change" VALUES(48,1795636070,'root',48,'mailbox.unaccept','ceo','{"id": 16, "name": "ceo", "receive": "insiders", "accept": ["<>", "@.example.net", "news@"], "reason": "", "until": 4102444800, "comment": ""}','{"id": 16, "name": "ceo", "receive": "insiders", "accept": ["<>", "@.example.net"], "reason": "", "until": 4102444800, "comment": ""}','84fd8f51ef4d1f8f871d29cc95fb758d02a81b5d4cf982610f4ddf7ca539a4d8');
INSERT INTO "change" VALUES(49,1795636070,'root',49,'mailbox.add','temporary',NULL,'{"id": 18, "name": "temporary", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','3df49e839088ae5eb3b96a26ab579578bb70c4e45572497df3286fb39fd320e5');
INSERT INTO "change" VALUES(50,1795636070,'root',49,'address.add','temporary@example.com',NULL,'{"address": "temporary@example.com", "mailbox": "temporary", "is_primary": true}','9a157dad9ca439a2d14e845b53b2985640e712ed28bbf2b30a3fe4f89ea262f0');
INSERT INTO "change" VALUES(51,1795636070,'root',51,'mailbox.restrict','temporary','{"id": 18, "name": "temporary", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','{"id": 18, "name": "temporary", "receive": "nobody", "accept": [], "reason": "", "until": null, "comment": ""}','f5915e0a87eae4ed5b2eed92d7d367d941d3075a959a7b47aa8d3060c7dbfe0e');
INSERT INTO "change" VALUES(52,1795636070,'root',52,'address.remove','temporary@example.com','{"address": "temporary@example.com", "mailbox": "temporary", "is_primary": true}',NULL,'995fcba098a0f4d41f09bfa2744ab9fd2bd759defa661b5ea200ab3db88cbff5');
INSERT INTO "change" VALUES(53,1795636070,'root',52,'mailbox.remove','temporary','{"id": 18, "name": "temporary", "receive": "nobody", "accept": [], "reason": "", "until": null, "comment": ""}',NULL,'ce32adc3aee907b716f0397b5bd1efe6c1d2fd6df24ebbab2f423180b5147fe5');
INSERT INTO "change" VALUES(54,1795636070,'root',54,'mailbox.add','the number again',NULL,'{"id": 18, "name": "the number again", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','ef42c51cb9987d422892a376a24d30b3b15fa44071b8c6a9f953b23ab46f265a');
INSERT INTO "change" VALUES(55,1795636070,'root',54,'address.add','again@example.com',NULL,'{"address": "again@example.com", "mailbox": "the number again", "is_primary": true}','16b022a403afc9ee2c81a6eb1ab0b101d33f0c427daa67da44efe591ef3ddadf');
INSERT INTO "change" VALUES(56,1795636070,'root',56,'mailbox.rename','ceo','{"id": 16, "name": "ceo", "receive": "insiders", "accept": ["<>", "@.example.net"], "reason": "", "until": 4102444800, "comment": ""}','{"id": 16, "name": "Chief, Executive", "receive": "insiders", "accept": ["<>", "@.example.net"], "reason": "", "until": 4102444800, "comment": ""}','88d8e7bda86cee746001091457ba4f75b3fb847b72b17f5ad3b9f04eb5e982ee');
INSERT INTO "change" VALUES(57,1795636070,'root',57,'mailbox.add','ceo',NULL,'{"id": 19, "name": "ceo", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','c3eaf43ca9f46dfd05adfcf82180cacee1ad8062b3094d63b83f432331c5412d');
INSERT INTO "change" VALUES(58,1795636070,'root',57,'address.add','second.ceo@example.com',NULL,'{"address": "second.ceo@example.com", "mailbox": "ceo", "is_primary": true}','95a0f03b537ec6f60805f6fe039bdff4051d99ba0580c7aa5836562d69d6f6aa');
INSERT INTO "change" VALUES(59,1795636070,'root',59,'address.add','robert@example.com',NULL,'{"address": "robert@example.com", "mailbox": "Bob", "is_primary": false}','ac3772afb3438ae7783975757174175b538b9dd08d78b6d5c7ac6ffcbab028f4');
INSERT INTO "change" VALUES(60,1795636071,'root',60,'address.remove','bob@example.com','{"address": "bob@example.com", "mailbox": "Bob", "is_primary": true}',NULL,'57f3d78b65edbb50e13b8b661d025437f8a6f1f3d71c78745d324d8846709f2d');
INSERT INTO "change" VALUES(61,1795636071,'root',60,'address.promote','bob@gone.example','{"address": "bob@gone.example", "mailbox": "Bob", "is_primary": false}','{"address": "bob@gone.example", "mailbox": "Bob", "is_primary": true}','204753f652a9832168c03b59b7ee0152e81fefb4d32172578114125679e163b4');
INSERT INTO "change" VALUES(62,1795636071,'root',62,'address.remove','bob@gone.example','{"address": "bob@gone.example", "mailbox": "Bob", "is_primary": true}',NULL,'610b9a5f91f3a3bc1c92d1863022fdac92a1874aa494fbf3c0296ced5ad3721c');
INSERT INTO "change" VALUES(63,1795636071,'root',62,'address.promote','robert@example.com','{"address": "robert@example.com", "mailbox": "Bob", "is_primary": false}','{"address": "robert@example.com", "mailbox": "Bob", "is_primary": true}','eac5bd8a2065005a7746ea57447fe0186193e023e8062069d6a27094ffe82d07');
INSERT INTO "change" VALUES(64,1795636071,'root',62,'domain.remove','gone.example','{"name": "gone.example", "unlisted": "reject"}',NULL,'18830a43b461e482fa4b9038c1fd77278b389bed17037be025266e2ea396e8f9');
INSERT INTO "change" VALUES(65,1795636071,'root',65,'sender.block','alice',NULL,'{"id": 1, "sender": "alice", "to": "outside", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','c19f18e38a9195f9e2230460204433ccf7c6b88a5460178dcfa602885fc662bc');
INSERT INTO "change" VALUES(66,1795636071,'root',66,'sender.block','Jane Doe',NULL,'{"id": 2, "sender": "Jane Doe", "to": "anyone", "except": ["@partner.example", "team@example.com"], "reason": "left the company", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','22248c6b02864f1b1b494ebc4e64fa49c13962af28a32bb0039e8c4ecc264182');
INSERT INTO "change" VALUES(67,1795636071,'root',67,'sender.block','@evil.example',NULL,'{"id": 3, "sender": "@evil.example", "to": "anyone", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','5636a7bba4d7329976c477837174b28611ab05bf06e78c838aac16b9a2d0ea86');
INSERT INTO "change" VALUES(68,1795636071,'root',68,'sender.block','spam@',NULL,'{"id": 4, "sender": "spam@", "to": "boss", "except": [], "reason": "", "until": null, "comment": "asked by the boss", "created_at": 1795636071, "created_by": "root"}','d377283f0f9e34635c686f111bed508f186853b2c13b08e63301576147ca4201');
INSERT INTO "change" VALUES(69,1795636071,'root',69,'sender.block','@.example.net',NULL,'{"id": 5, "sender": "@.example.net", "to": "anyone", "except": ["postmaster@example.com"], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','32b88dc76d98ac5c249803945bb251382c3a10a6f5782065bc112562bc4a8a52');
INSERT INTO "change" VALUES(70,1795636071,'root',70,'sender.block','Bob',NULL,'{"id": 6, "sender": "Bob", "to": "Chief, Executive", "except": [], "reason": "", "until": 4102444800, "comment": "", "created_at": 1795636071, "created_by": "root"}','850283ad78621510062b20a8e4148548389372cc245d83f2edfa2d7ea55ee77b');
INSERT INTO "change" VALUES(71,1795636071,'root',71,'sender.block','quoted',NULL,'{"id": 7, "sender": "quoted", "to": "outside", "except": [], "reason": "", "until": 1795636074, "comment": "", "created_at": 1795636071, "created_by": "root"}','e6c051c0d046d93991a160580b3175d5ec1c81458ce2ac8590f04e543fc50c85');
INSERT INTO "change" VALUES(72,1795636071,'root',72,'sender.block','group:sales',NULL,'{"id": 8, "sender": "group:sales", "to": "Group:All Staff", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','627432ebfa8ddc5526546f518b7e1153a53182dd39e5363c16cb3652a3e84fa3');
INSERT INTO "change" VALUES(73,1795636071,'root',73,'sender.block','<>',NULL,'{"id": 9, "sender": "<>", "to": "literal", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','64418ffa2eb618f74a3938bdf7ec8f22c86888adb308452a142c99b89e7d2c98');
INSERT INTO "change" VALUES(74,1795636071,'root',74,'sender.block','jane doe@example.com',NULL,'{"id": 10, "sender": "jane doe@example.com", "to": "anyone", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','7b903cd7abcdbf35b1aaa508e368b5fe1e062e869517cfbdb1cec040b95a7824');
INSERT INTO "change" VALUES(75,1795636072,'root',75,'sender.block','later@example.net',NULL,'{"id": 11, "sender": "later@example.net", "to": "anyone", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636072, "created_by": "root"}','e10e9da4d2513fe10945c0d787087873b59d504bfb445c230a7cd3064ff6d052');
INSERT INTO "change" VALUES(76,1795636072,'root',76,'sender.except','@evil.example','{"id": 3, "sender": "@evil.example", "to": "anyone", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','{"id": 3, "sender": "@evil.example", "to": "anyone", "except": ["good@example.com"], "reason": "", "until": null, "comment": "", "created_at": 1795636071, "created_by": "root"}','94450db04f73a01a4fdccbf996e6e80ecd57e2e0bf332ccab8e54583a5904e1b');
INSERT INTO "change" VALUES(77,1795636072,'root',77,'sender.unblock','later@example.net','{"id": 11, "sender": "later@example.net", "to": "anyone", "except": [], "reason": "", "until": null, "comment": "", "created_at": 1795636072, "created_by": "root"}',NULL,'4acd1ed71e5510c30a79cc7b5bba102e691b89c3ecb59d3cf05a5d7f58ce6d01');
INSERT INTO "change" VALUES(78,1795636072,'root',78,'mailbox.import','imported',NULL,'{"id": 20, "name": "imported", "receive": "insiders", "accept": ["@partner.example"], "reason": "Grüße, \"alle\" hier", "until": null, "comment": "a note"}','524f4794778fa08b4db0e4d3668e797e024e26d9da59a8188afd88244eff6ab2');
INSERT INTO "change" VALUES(79,1795636072,'root',78,'address.import','imported@example.com',NULL,'{"address": "imported@example.com", "mailbox": "imported", "is_primary": true}','9fbff7a5439f869eeba73bdda4f91fbd091e47fd8b4cf0d6b1e0da55c72f1a26');
INSERT INTO "change" VALUES(80,1795636072,'root',78,'address.import','i@example.org',NULL,'{"address": "i@example.org", "mailbox": "imported", "is_primary": false}','2b958d4a295e2bf9d75bfb6107e33f379fb773191a7e2b62a78f8c341afbd7ee');
INSERT INTO "change" VALUES(81,1795636072,'root',78,'mailbox.import','comma, semi; and ''quotes''',NULL,'{"id": 21, "name": "comma, semi; and ''quotes''", "receive": "nobody", "accept": [], "reason": "", "until": null, "comment": ""}','eb8c05974853127d9406287722ed8cc5b2598dc83de8c035ea1fb534cbf8d656');
INSERT INTO "change" VALUES(82,1795636072,'root',78,'address.import','cs@example.com',NULL,'{"address": "cs@example.com", "mailbox": "comma, semi; and ''quotes''", "is_primary": true}','ee231a38e34816fb1f964c9311ae5c88b31d870e6cc3c761a56de258d2c2e4a2');
INSERT INTO "change" VALUES(83,1795636072,'root',78,'mailbox.import','xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',NULL,'{"id": 22, "name": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','6a40dacdca556e8970d68cbb1f99a21c5f3db3345f5857ffaaaf4d0f5f1a8c8d');
INSERT INTO "change" VALUES(84,1795636072,'root',78,'address.import','long@example.com',NULL,'{"address": "long@example.com", "mailbox": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "is_primary": true}','80c3f80935f72e10e2e7998557f12965f4fe0639c9e123b8c8bfa24f3de74f2d');
INSERT INTO "change" VALUES(85,1795636072,'root',85,'mailbox.add','mistake',NULL,'{"id": 23, "name": "mistake", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}','37ff33648291e864b0ce296ff22aad4e98f181368c2abe317c90427b52c1a25e');
INSERT INTO "change" VALUES(86,1795636072,'root',85,'address.add','mistake@example.com',NULL,'{"address": "mistake@example.com", "mailbox": "mistake", "is_primary": true}','a7f8d7a93894ddf855c794bdb67ca176ffcdd151dfc7ca4f0ebafce1e2a07066');
INSERT INTO "change" VALUES(87,1795636072,'root',87,'address.undo','mistake@example.com','{"address": "mistake@example.com", "mailbox": "mistake", "is_primary": true}',NULL,'c64dc3d73536cdc03e9c0807162b2b5da5366674ac2a8c05a55e6113d2094252');
INSERT INTO "change" VALUES(88,1795636072,'root',87,'mailbox.undo','mistake','{"id": 23, "name": "mistake", "receive": "anyone", "accept": [], "reason": "", "until": null, "comment": ""}',NULL,'27605d66c4bd28a7d71fff95beb9c937004027c75ad5d593f078c26a2fd7fea6');
INSERT INTO "change" VALUES(89,1795636072,'root',89,'domain.set','example.org','{"name": "example.org", "unlisted": "accept"}','{"name": "example.org", "unlisted": "reject"}','612e4e0bef3f187421769d18108871b8519ecb1a1c47880f245668c5293ab42f');
INSERT INTO "change" VALUES(90,1795636072,'root',90,'domain.set','example.org','{"name": "example.org", "unlisted": "reject"}','{"name": "example.org", "unlisted": "accept"}','8fa70da7e5159b0eddd7cd6a090acf7a78d0a090e600ad5a7a03ca761ad232aa');
CREATE TABLE domain (
	name TEXT NOT NULL, 
	unlisted TEXT NOT NULL, 
	PRIMARY KEY (name), 
	CONSTRAINT domain_unlisted CHECK (unlisted IN ('reject', 'accept'))
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "domain" VALUES('[198.51.100.7]','reject');
INSERT INTO "domain" VALUES('example.com','reject');
INSERT INTO "domain" VALUES('example.org','accept');
INSERT INTO "domain" VALUES('xn--bcher-kva.example','reject');
CREATE TABLE mailbox (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	folded_name TEXT NOT NULL, 
	receive TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	until INTEGER, 
	comment TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT mailbox_receive CHECK (receive IN ('anyone', 'insiders', 'nobody')), 
	UNIQUE (folded_name)
)
 STRICT

;
INSERT INTO "mailbox" VALUES(1,'alice','alice','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(2,'Bob','bob','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(3,'Jane Doe','jane doe','anyone','',NULL,'two   blanks');
INSERT INTO "mailbox" VALUES(4,'Straße','strasse','insiders','ended long ago',1795636073,'');
INSERT INTO "mailbox" VALUES(5,'日本','日本','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(6,'group:sales','group:sales','nobody','',NULL,'');
INSERT INTO "mailbox" VALUES(7,'group-sales','group-sales','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(8,'group-sales-2','group-sales-2','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(9,'Group:All Staff','group:all staff','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(10,'group:','group:','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(11,'group:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx','group:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(12,'group-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx','group-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(13,'no address','no address','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(14,'literal','literal','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(15,'boss','boss','nobody','Bitte ans Büro',NULL,'');
INSERT INTO "mailbox" VALUES(16,'Chief, Executive','chief, executive','insiders','',4102444800,'');
INSERT INTO "mailbox" VALUES(17,'quoted','quoted','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(18,'the number again','the number again','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(19,'ceo','ceo','anyone','',NULL,'');
INSERT INTO "mailbox" VALUES(20,'imported','imported','insiders','Grüße, "alle" hier',NULL,'a note');
INSERT INTO "mailbox" VALUES(21,'comma, semi; and ''quotes''','comma, semi; and ''quotes''','nobody','',NULL,'');
INSERT INTO "mailbox" VALUES(22,'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx','xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx','anyone','',NULL,'');
CREATE INDEX address_mailbox ON address (mailbox_id);
CREATE INDEX blocked_sender_mailbox ON blocked_sender (mailbox_id);
CREATE INDEX blocked_sender_pattern ON blocked_sender (pattern);
CREATE INDEX blocked_sender_recipient ON blocked_sender (recipient_mailbox_id);
CREATE UNIQUE INDEX blocked_sender_once ON blocked_sender (coalesce(mailbox_id, 0), coalesce(pattern, ''), coalesce(recipients, ''), coalesce(recipient_mailbox_id, 0));
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('blocked_sender',11);
COMMIT;
