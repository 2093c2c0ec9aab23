package protocol

import "strconv"

// PFKeyVersion is the version octet of every PF_KEY message (PF_KEY_V2).
const PFKeyVersion = 2

// Types of PF_KEY messages: RFC 2367 §3.1, then KAME's.
const (
	SADBGetSPI      = 1
	SADBUpdate      = 2
	SADBAdd         = 3
	SADBDelete      = 4
	SADBGet         = 5
	SADBAcquire     = 6
	SADBRegister    = 7
	SADBExpire      = 8
	SADBFlush       = 9
	SADBDump        = 10
	SADBXPromisc    = 11
	SADBXPChange    = 12
	SADBXSPDUpdate  = 13
	SADBXSPDAdd     = 14
	SADBXSPDDelete  = 15 // by selector
	SADBXSPDGet     = 16
	SADBXSPDAcquire = 17
	SADBXSPDDump    = 18
	SADBXSPDFlush   = 19
	SADBXSPDSetIdx  = 20
	SADBXSPDExpire  = 21
	SADBXSPDDelete2 = 22 // by number
	SADBMax         = 22
)

// Extensions of PF_KEY messages: RFC 2367 §2.3, KAME's, and from 20 those of
// NetBSD and FreeBSD.
const (
	SADBExtSA               = 1
	SADBExtLifetimeCurrent  = 2
	SADBExtLifetimeHard     = 3
	SADBExtLifetimeSoft     = 4
	SADBExtAddressSrc       = 5
	SADBExtAddressDst       = 6
	SADBExtAddressProxy     = 7
	SADBExtKeyAuth          = 8
	SADBExtKeyEncrypt       = 9
	SADBExtIdentitySrc      = 10
	SADBExtIdentityDst      = 11
	SADBExtSensitivity      = 12
	SADBExtProposal         = 13
	SADBExtSupportedAuth    = 14
	SADBExtSupportedEncrypt = 15
	SADBExtSPIRange         = 16
	SADBXExtKMPrivate       = 17
	SADBXExtPolicy          = 18
	SADBXExtSA2             = 19
	SADBXExtNATTType        = 20
	SADBXExtNATTSPort       = 21
	SADBXExtNATTDPort       = 22
	SADBXExtNATTOAI         = 23 // NAT_T_OA of others; the original source
	SADBXExtNATTOAR         = 24 // the original destination
	SADBXExtNATTFrag        = 25
	SADBXExtSAReplay        = 26
	SADBXExtText            = 0x8000 // ionet's own: what is to be said of an error
	SADBXExtTFC             = 0x8001 // ionet's own: octets that plaintexts are padded to
)

// Types of security associations (SADB_SATYPE_*).
const (
	SADBSATypeUnspec = 0
	SADBSATypeAH     = 2
	SADBSATypeESP    = 3
	SADBSATypeRSVP   = 5
	SADBSATypeOSPFv2 = 6
	SADBSATypeRIPv2  = 7
	SADBSATypeMIP    = 8
	SADBSATypeIPComp = 9
)

// States of security associations (SADB_SASTATE_*).
const (
	SADBSAStateLarval = 0
	SADBSAStateMature = 1
	SADBSAStateDying  = 2
	SADBSAStateDead   = 3
)

// Flags of security associations. All but the first are KAME's SADB_X_EXT_*;
// ESN is FreeBSD's.
const (
	SADBSAFlagsPFS  = 0x0001 // RFC 2367; in KAME's use [SADBXExtOld]
	SADBXExtOld     = 0x0001 // the forms of RFC 1826 and 1827
	SADBXExtIV4B    = 0x0010
	SADBXExtDeriv   = 0x0020
	SADBXExtCycSeq  = 0x0040 // the sequence number may start again
	SADBXExtRawCPI  = 0x0080 // IPComp: the well-known number on the wire
	SADBXExtPSeq    = 0x0000 // padding counts
	SADBXExtPRand   = 0x0100 // padding is random
	SADBXExtPZero   = 0x0200 // padding is zero
	SADBXExtPMask   = 0x0300
	SADBXSAFlagsESN = 0x0400 // extended sequence numbers (RFC 4304)
)

// Authentication algorithms (SADB_AALG_*, SADB_X_AALG_*).
const (
	SADBAalgNone       = 0
	SADBAalgMD5HMAC    = 2
	SADBAalgSHA1HMAC   = 3
	SADBAalgSHA2256    = 5
	SADBAalgSHA2384    = 6
	SADBAalgSHA2512    = 7
	SADBAalgRIPEMD160  = 8
	SADBAalgAESXCBC    = 9
	SADBAalgAES128GMAC = 11
	SADBAalgAES192GMAC = 12
	SADBAalgAES256GMAC = 13
	SADBAalgMD5        = 249 // keyed
	SADBAalgSHA        = 250 // keyed
	SADBAalgNull       = 251
	SADBAalgTCPMD5     = 252
	SADBAalgAESCMAC    = 254 // ionet's own; nobody has one
)

// Encryption algorithms (SADB_EALG_*, SADB_X_EALG_*), those without a name in
// NetBSD by IANA's number of the ESP transform.
const (
	SADBEalgNone             = 0
	SADBEalgDESCBC           = 2
	SADBEalg3DESCBC          = 3
	SADBEalgCAST128CBC       = 6
	SADBEalgBlowfishCBC      = 7
	SADBEalgNull             = 11
	SADBEalgAES              = 12 // rijndael-cbc
	SADBEalgAESCTR           = 13
	SADBEalgAESCCM8          = 14
	SADBEalgAESCCM12         = 15
	SADBEalgAESCCM16         = 16
	SADBEalgAESGCM8          = 18
	SADBEalgAESGCM12         = 19
	SADBEalgAESGCM16         = 20
	SADBEalgAESGMAC          = 21
	SADBEalgChaCha20Poly1305 = 28
	SADBEalgTwofishCBC       = 253
)

// Compression algorithms (SADB_X_CALG_*).
const (
	SADBCalgNone    = 0
	SADBCalgOUI     = 1
	SADBCalgDeflate = 2
	SADBCalgLZS     = 3
)

// Types of identities (SADB_IDENTTYPE_*).
const (
	SADBIdentPrefix   = 1
	SADBIdentFQDN     = 2
	SADBIdentUserFQDN = 3
	SADBIdentAddr     = 4
)

// Modes of a security association or a request (KAME's IPSEC_MODE_*; BEET is
// Linux's).
const (
	IPSecModeAny       = 0
	IPSecModeTransport = 1
	IPSecModeTunnel    = 2
	IPSecModeBEET      = 3
)

// Directions of a policy (KAME's IPSEC_DIR_*; fwd is Linux's).
const (
	IPSecDirAny = 0
	IPSecDirIn  = 1
	IPSecDirOut = 2
	IPSecDirFwd = 3
)

// Types of policies (KAME's IPSEC_POLICY_*).
const (
	IPSecPolicyDiscard = 0
	IPSecPolicyNone    = 1
	IPSecPolicyIPSec   = 2
	IPSecPolicyEntrust = 3 // a socket's: as the table says
	IPSecPolicyBypass  = 4 // a socket's: nothing is done, its owner is privileged
)

// Levels of a request (KAME's IPSEC_LEVEL_*).
const (
	IPSecLevelDefault = 0
	IPSecLevelUse     = 1
	IPSecLevelRequire = 2
	IPSecLevelUnique  = 3
)

// Priorities of policies (libipsec's): the smaller is asked first. A policy
// that says none has the default one.
const (
	IPSecPriorityHigh    = 0x40000000
	IPSecPriorityDefault = 0x80000000
	IPSecPriorityLow     = 0xc0000000
)

// Numbers with a meaning of their own.
const (
	IPSecProtoAny       = 255    // any upper-layer protocol (IPSEC_ULPROTO_ANY)
	IPSecPortAny        = 0      // any port (IPSEC_PORT_ANY)
	IPSecManualReqIDMax = 0x3fff // reqids above are the stack's own
	NATTEspInUDP        = 2      // the type of NAT-T of RFC 3948 (UDP_ENCAP_ESPINUDP)
)

// Options of a socket that take a policy's octets.
const (
	IPIPSecPolicy   = 22 // IP_IPSEC_POLICY, level IP
	IPv6IPSecPolicy = 28 // IPV6_IPSEC_POLICY, level IPv6
)

var keyTypeNames = [...]string{"", "GETSPI", "UPDATE", "ADD", "DELETE", "GET", "ACQUIRE", "REGISTER", "EXPIRE", "FLUSH", "DUMP",
	"X_PROMISC", "X_PCHANGE", "X_SPDUPDATE", "X_SPDADD", "X_SPDDELETE", "X_SPDGET", "X_SPDACQUIRE", "X_SPDDUMP", "X_SPDFLUSH",
	"X_SPDSETIDX", "X_SPDEXPIRE", "X_SPDDELETE2"}

// KeyTypeName is the name of a message type without its SADB_, "type 99" of
// one that is not known.
func KeyTypeName(typ uint8) string {
	if typ != 0 && int(typ) < len(keyTypeNames) {
		return keyTypeNames[typ]
	}
	return "type " + strconv.Itoa(int(typ))
}

var keyExtNames = [...]string{"", "SA", "LIFETIME_CURRENT", "LIFETIME_HARD", "LIFETIME_SOFT", "ADDRESS_SRC", "ADDRESS_DST",
	"ADDRESS_PROXY", "KEY_AUTH", "KEY_ENCRYPT", "IDENTITY_SRC", "IDENTITY_DST", "SENSITIVITY", "PROPOSAL", "SUPPORTED_AUTH",
	"SUPPORTED_ENCRYPT", "SPIRANGE", "X_KMPRIVATE", "X_POLICY", "X_SA2", "X_NAT_T_TYPE", "X_NAT_T_SPORT", "X_NAT_T_DPORT",
	"X_NAT_T_OAI", "X_NAT_T_OAR", "X_NAT_T_FRAG", "X_SA_REPLAY"}

// KeyTypes is how many message types there are, the reserved 0 included.
const KeyTypes = len(keyTypeNames)

// KeyExtName is the name of an extension without its SADB_EXT_, "extension
// 99" of one that is not known.
func KeyExtName(typ uint16) string {
	switch {
	case typ != 0 && int(typ) < len(keyExtNames):
		return keyExtNames[typ]
	case typ == SADBXExtText:
		return "X_TEXT"
	case typ == SADBXExtTFC:
		return "X_TFC"
	}
	return "extension " + strconv.Itoa(int(typ))
}
