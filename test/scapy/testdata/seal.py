# seal seals and opens IP packets with scapy's IPsec: a request is a line of JSON,
# and so is the answer.
import json
import sys
import warnings

warnings.simplefilter("ignore")

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.layers import ipsec
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

# Integrity check values of GCM shorter than 16 octets want the older interface.
GCM = ipsec.CryptAlgo("AES-GCM-SHORT", cipher=algorithms.AES, mode=modes.GCM, block_size=1, iv_size=8, salt_size=4,
                      icv_size=16, format_mode_iv=lambda sa, iv, **kw: sa.crypt_salt + iv)
GCM.new_cipher = lambda key, iv, digest=None: ipsec.Cipher(
    algorithms.AES(key), modes.GCM(iv, digest, len(digest)) if digest else modes.GCM(iv))
ipsec.CRYPT_ALGOS["AES-GCM-SHORT"] = GCM


# scapy leaves the high half of an extended sequence number out of the sum of ESP
# when encryption and authentication are two algorithms (RFC 4303, section 2.2.1).
class Extended(ipsec.AuthAlgo):
    def __init__(self, of, high):
        super().__init__(of.name, of.mac, of.digestmod, of.icv_size, of.key_size)
        self.high = high.to_bytes(4, "big")

    def _sum(self, key, data):
        mac = self.new_mac(key)
        mac.update(data + self.high)
        return mac.finalize()[:self.icv_size]

    def sign(self, pkt, key, esn_en=False, esn=0):
        pkt[ipsec.ESP].data += self._sum(key, bytes(pkt[ipsec.ESP]))
        return pkt

    def verify(self, pkt, key, esn_en=False, esn=0):
        data = bytes(pkt)
        if data[-self.icv_size:] != self._sum(key, data[:-self.icv_size]):
            raise ipsec.IPSecIntegrityError("the sum is wrong")


def association(s):
    proto = {"esp": ipsec.ESP, "ah": ipsec.AH}[s["proto"]]
    v6 = ":" in s["dst"]
    arg = dict(esn_en=s["esn"], esn=s["high"])
    if proto is ipsec.ESP:
        arg.update(crypt_algo=s["enc"], crypt_key=bytes.fromhex(s["enckey"]))
        if s["icv"]:
            arg["crypt_icv_size"] = s["icv"]
            if s["enc"] == "AES-GCM" and s["icv"] != 16:
                arg["crypt_algo"] = "AES-GCM-SHORT"
    if s["auth"]:
        arg.update(auth_algo=s["auth"], auth_key=bytes.fromhex(s["authkey"]))
    if s["mode"] == "tunnel":
        arg["tunnel_header"] = (IPv6 if v6 else IP)(src=s["src"], dst=s["dst"])
    if s["sport"]:
        arg["nat_t_header"] = UDP(sport=s["sport"], dport=s["dport"])
    sa = ipsec.SecurityAssociation(proto, s["spi"], **arg)
    if s["esn"] and proto is ipsec.ESP and s["auth"]:
        sa.auth_algo = Extended(sa.auth_algo, s["high"])
    return sa


def packet(octets):
    return (IPv6 if octets[0] >> 4 == 6 else IP)(octets)


def answer(r):
    sa = association(r["sa"])
    octets = bytes.fromhex(r["packet"])
    if r["op"] == "seal":
        p = sa.encrypt(packet(octets), seq_num=r["seq"])
        if UDP in p:
            del p[UDP].len  # scapy has counted the header alone
            if p.version == 6:
                del p[UDP].chksum  # there must be one (RFC 8200, section 8.1)
        return p
    # ESP in UDP is shown to scapy as if it were not.
    p = packet(octets)
    if UDP in p:
        inner = bytes(p[UDP].payload)
        p[UDP].underlayer.remove_payload()
        if p.version == 6:
            p.nh, p.plen = 50, len(inner)
        else:
            p.proto, p.len = 50, 20 + len(inner)
        p = packet(bytes(p) + inner)
    return sa.decrypt(p)


for line in sys.stdin:
    try:
        print(json.dumps({"packet": bytes(answer(json.loads(line))).hex()}), flush=True)
    except Exception as e:
        print(json.dumps({"error": type(e).__name__ + ": " + str(e)}), flush=True)
