/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reading a tunnel packet: which bytes are the outer headers, and may they go?
 *
 * Included by decap.bpf.c alone. Works on offsets from the frame's start, each checked
 * against the frame's end before it is read, so the same code serves XDP and tc. Formats: IPIP RFC 2003 and
 * 2473, GRE RFC 2784, GUE draft-ietf-intarea-gue-09 (variants 0 and 1).
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tools/decap/decap_maps.h"

#define DECAP_VLAN_TAGS 2
#define DECAP_EXTENSIONS 4
#define ETH_TAG_BYTES 4
#define ECN_MASK 3
#define ECN_CE 3

struct frame {
    void* data;
    void* end;
};

/* A tunnel packet that may be decapsulated: [ip_offset, inner_offset) goes. */
struct tunnel {
    __u32 ip_offset;
    __u32 ip_end; /* of the outer packet by its own length field */
    __u32 inner_offset;
    __u8 outer_family;
    __u8 inner_family; /* what the tunnel header says; 0: read it from the inner header */
    __u8 protocol;
    __u8 outer_ecn;
    __u8 counter; /* enum decap_counter when it is taken */
    __u8 is_fragment;
    __u8 is_later_fragment;
};

/* NULL when `size` bytes at `offset` are not all there. */
static __always_inline void* bytes_at(const struct frame* frame, __u32 offset, __u32 size) {
    void* start = frame->data + (offset & 0x3ff);
    return offset > 0x3ff || start + size > frame->end ? NULL : start;
}

static __always_inline void set_v4(struct decap_address* address, __be32 value) {
    __builtin_memset(address, 0, sizeof(*address));
    address->family = DECAP_FAMILY_V4;
    __builtin_memcpy(address->bytes, &value, sizeof(value));
}

static __always_inline void set_v6(struct decap_address* address, const struct in6_addr* value) {
    address->family = DECAP_FAMILY_V6;
    __builtin_memcpy(address->bytes, value, sizeof(*value));
}

/* Offset of the IP header behind up to two VLAN tags; 0 when the frame is no IP. */
static __always_inline __u32 read_ethernet(const struct frame* frame, __be16* type) {
    struct ethhdr* eth = bytes_at(frame, 0, sizeof(*eth));
    __u32 offset = sizeof(*eth);

    if (!eth) return 0;
    *type = eth->h_proto;
    for (int i = 0; i < DECAP_VLAN_TAGS; i++) {
        __be16* tag;

        if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD)) break;
        tag = bytes_at(frame, offset, ETH_TAG_BYTES);
        if (!tag) return 0;
        *type = tag[1];
        offset += ETH_TAG_BYTES;
    }
    return *type == bpf_htons(ETH_P_IP) || *type == bpf_htons(ETH_P_IPV6) ? offset : 0;
}

static __always_inline __u16 fold(__u32 sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u16)sum;
}

/* The kernel would have checked it, but the header does not reach the kernel. */
static __always_inline bool checksum_is_right(const struct frame* frame, __u32 offset, __u32 size) {
    __u32 sum = 0;

    for (__u32 i = 0; i < 60; i += 4) {
        __u16* words;

        if (i >= size) break;
        words = bytes_at(frame, offset + i, 4);
        if (!words) return false;
        sum += (__u32)words[0] + words[1];
    }
    return fold(sum) == 0xffff;
}

/* Reads the outer IPv4 header. Returns 0 or the counter of what is wrong. */
static __always_inline int read_outer_v4(const struct frame* frame, struct tunnel* tunnel,
                                         struct decap_address* source, struct decap_address* destination) {
    struct iphdr* ip = bytes_at(frame, tunnel->ip_offset, sizeof(*ip));
    __u32 header, total;

    if (!ip || ip->version != 4) return DECAP_PASSED;
    header = ip->ihl * 4U;
    total = bpf_ntohs(ip->tot_len);
    set_v4(source, ip->saddr);
    set_v4(destination, ip->daddr);
    tunnel->outer_family = DECAP_FAMILY_V4;
    tunnel->protocol = ip->protocol;
    tunnel->outer_ecn = ip->tos & ECN_MASK;
    tunnel->is_fragment = (ip->frag_off & bpf_htons(0x3fff)) != 0;
    tunnel->is_later_fragment = (ip->frag_off & bpf_htons(0x1fff)) != 0;
    tunnel->inner_offset = tunnel->ip_offset + header;
    tunnel->ip_end = tunnel->ip_offset + total;
    if (header < sizeof(*ip) || total < header) return DECAP_OUTER_MALFORMED;
    if (!checksum_is_right(frame, tunnel->ip_offset, header)) return DECAP_OUTER_MALFORMED;
    return 0;
}

/* Steps over one extension header. Returns 1 when `protocol` is no extension any more. */
static __always_inline int step_extension(const struct frame* frame, struct tunnel* tunnel) {
    __u8* extension;

    if (tunnel->protocol != IPPROTO_HOPOPTS && tunnel->protocol != IPPROTO_DSTOPTS &&
        tunnel->protocol != IPPROTO_FRAGMENT) {
        return 1;
    }
    extension = bytes_at(frame, tunnel->inner_offset, 8);
    if (!extension) return -1;
    if (tunnel->protocol == IPPROTO_FRAGMENT) {
        /* An atomic fragment (RFC 6946) is whole. */
        __be16 bits = *(__be16*)(extension + 2) & bpf_htons(0xfff9);
        tunnel->is_fragment = bits != 0;
        tunnel->is_later_fragment = (bits & bpf_htons(0xfff8)) != 0;
        tunnel->inner_offset += 8;
    } else {
        tunnel->inner_offset += (extension[1] + 1U) * 8U;
    }
    tunnel->protocol = extension[0];
    return tunnel->is_later_fragment ? 1 : 0;
}

static __always_inline int read_outer_v6(const struct frame* frame, struct tunnel* tunnel,
                                         struct decap_address* source, struct decap_address* destination) {
    struct ipv6hdr* ip = bytes_at(frame, tunnel->ip_offset, sizeof(*ip));
    int done = 0;

    if (!ip || ip->version != 6) return DECAP_PASSED;
    set_v6(source, &ip->saddr);
    set_v6(destination, &ip->daddr);
    tunnel->outer_family = DECAP_FAMILY_V6;
    tunnel->protocol = ip->nexthdr;
    tunnel->outer_ecn = (ip->flow_lbl[0] >> 4) & ECN_MASK;
    tunnel->inner_offset = tunnel->ip_offset + sizeof(*ip);
    tunnel->ip_end = tunnel->inner_offset + bpf_ntohs(ip->payload_len);
    for (int i = 0; i < DECAP_EXTENSIONS && !done; i++) done = step_extension(frame, tunnel);
    if (done < 0) return DECAP_PASSED; /* no protocol to judge by; the kernel drops it */
    return 0;
}

/* Reads the UDP and GUE headers. Returns 0, or the counter of what is wrong. */
static __always_inline int read_gue(const struct frame* frame, struct tunnel* tunnel) {
    struct udphdr* udp = bytes_at(frame, tunnel->inner_offset, sizeof(*udp));
    __u8* payload;
    __u32 length;

    if (!udp) return DECAP_UDP_MALFORMED;
    length = bpf_ntohs(udp->len);
    if (length < sizeof(*udp) || tunnel->inner_offset + length > tunnel->ip_end) return DECAP_UDP_MALFORMED;
    tunnel->ip_end = tunnel->inner_offset + length;
    tunnel->inner_offset += sizeof(*udp);
    payload = bytes_at(frame, tunnel->inner_offset, 4);
    if (!payload || tunnel->inner_offset + 4 > tunnel->ip_end) return DECAP_GUE_UNSUPPORTED;
    tunnel->counter = DECAP_GUE;
    if (payload[0] >> 6 == 1) { /* variant 1: the payload is the IP packet */
        tunnel->inner_family = payload[0] >> 4;
        return 0;
    }
    /* Variant 0: 2 bits of version, control flag, header length; then protocol and flags. */
    if (payload[0] != 0 || payload[2] != 0 || payload[3] != 0) return DECAP_GUE_UNSUPPORTED;
    if (payload[1] != IPPROTO_IPIP && payload[1] != IPPROTO_IPV6) return DECAP_GUE_UNSUPPORTED;
    tunnel->inner_family = payload[1] == IPPROTO_IPIP ? DECAP_FAMILY_V4 : DECAP_FAMILY_V6;
    tunnel->inner_offset += 4;
    return 0;
}

static __always_inline int read_gre(const struct frame* frame, struct tunnel* tunnel) {
    __be16* gre = bytes_at(frame, tunnel->inner_offset, 4);

    if (!gre || gre[0] != 0) return DECAP_GRE_UNSUPPORTED;
    if (gre[1] != bpf_htons(ETH_P_IP) && gre[1] != bpf_htons(ETH_P_IPV6)) return DECAP_GRE_UNSUPPORTED;
    tunnel->inner_family = gre[1] == bpf_htons(ETH_P_IP) ? DECAP_FAMILY_V4 : DECAP_FAMILY_V6;
    tunnel->inner_offset += 4;
    tunnel->counter = DECAP_GRE;
    return 0;
}

/* Is this protocol a tunnel of ours? Later fragments of UDP carry no port and stay the kernel's. */
static __always_inline bool is_tunnel(const struct frame* frame, const struct tunnel* tunnel, __be16 port) {
    struct udphdr* udp;

    if (tunnel->protocol == IPPROTO_IPIP || tunnel->protocol == IPPROTO_IPV6 ||
        tunnel->protocol == IPPROTO_GRE) {
        return true;
    }
    if (tunnel->protocol != IPPROTO_UDP || tunnel->is_later_fragment) return false;
    udp = bytes_at(frame, tunnel->inner_offset, sizeof(*udp));
    return udp && udp->dest == port;
}

/* Reads what stands between the outer IP header and the inner one. */
static __always_inline int read_tunnel_header(const struct frame* frame, struct tunnel* tunnel) {
    switch (tunnel->protocol) {
        case IPPROTO_UDP:
            return read_gue(frame, tunnel);
        case IPPROTO_GRE:
            return read_gre(frame, tunnel);
        default:
            tunnel->counter = DECAP_IPIP;
            tunnel->inner_family = tunnel->protocol == IPPROTO_IPIP ? DECAP_FAMILY_V4 : DECAP_FAMILY_V6;
            return 0;
    }
}

/* RFC 6040: a mark of congestion on the outside reaches the inside, or the packet is dropped. */
static __always_inline int carry_ecn_v4(struct iphdr* ip) {
    __u32 sum;

    if ((ip->tos & ECN_MASK) == 0) return DECAP_INNER_ECN;
    /* RFC 1624, equation 3, on the first word: version, length, TOS. */
    sum = (__u16)~ip->check;
    sum += (__u16) ~*(__u16*)ip;
    ip->tos |= ECN_CE;
    sum += *(__u16*)ip;
    ip->check = (__u16)~fold(sum);
    return 0;
}

static __always_inline int carry_ecn_v6(struct ipv6hdr* ip) {
    if (((ip->flow_lbl[0] >> 4) & ECN_MASK) == 0) return DECAP_INNER_ECN;
    ip->flow_lbl[0] |= ECN_CE << 4;
    return 0;
}

/* Checks the inner header against the outer one's length and reads its destination. */
static __always_inline int read_inner(const struct frame* frame, const struct tunnel* tunnel,
                                      struct decap_address* destination) {
    __u32 offset = tunnel->inner_offset;

    if (tunnel->inner_family == DECAP_FAMILY_V4) {
        struct iphdr* ip = bytes_at(frame, offset, sizeof(*ip));

        if (!ip || ip->version != 4 || ip->ihl < 5) return DECAP_INNER_MALFORMED;
        if (bpf_ntohs(ip->tot_len) < ip->ihl * 4U) return DECAP_INNER_MALFORMED;
        if (offset + bpf_ntohs(ip->tot_len) > tunnel->ip_end) return DECAP_INNER_MALFORMED;
        set_v4(destination, ip->daddr);
    } else if (tunnel->inner_family == DECAP_FAMILY_V6) {
        struct ipv6hdr* ip = bytes_at(frame, offset, sizeof(*ip));

        if (!ip || ip->version != 6) return DECAP_INNER_MALFORMED;
        if (offset + sizeof(*ip) + bpf_ntohs(ip->payload_len) > tunnel->ip_end) return DECAP_INNER_MALFORMED;
        set_v6(destination, &ip->daddr);
    } else {
        return DECAP_INNER_MALFORMED;
    }
    return 0;
}

static __always_inline int carry_ecn(const struct frame* frame, const struct tunnel* tunnel) {
    if (tunnel->outer_ecn != ECN_CE) return 0;
    if (tunnel->inner_family == DECAP_FAMILY_V4) {
        struct iphdr* ip = bytes_at(frame, tunnel->inner_offset, sizeof(*ip));
        return ip ? carry_ecn_v4(ip) : DECAP_INNER_MALFORMED;
    } else {
        struct ipv6hdr* ip = bytes_at(frame, tunnel->inner_offset, sizeof(*ip));
        return ip ? carry_ecn_v6(ip) : DECAP_INNER_MALFORMED;
    }
}
