/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What detour-decap's BPF programs and its loader share: map keys, counters, program and map names.
 *
 * Plain C, so that the layout is written once. One object is loaded per interface, so every map and every
 * counter belongs to one interface. The loader writes the address maps, the programs only read them; counters
 * are per CPU, written by the programs and read by `detour-decap stats`.
 */
#pragma once

#include <linux/types.h>

#define DECAP_FAMILY_V4 4
#define DECAP_FAMILY_V6 6

/* At most this many VIPs, source prefixes and local addresses of each interface. */
#define DECAP_MAX_ADDRESSES 4096

/* Bytes from the outer IP header to the inner one; a longer chain of headers is refused. */
#define DECAP_MAX_OUTER_BYTES 256

/* An address of either family, as on the wire; IPv4 uses the first 4 bytes, the rest is zero. */
struct decap_address {
    __u8 family;
    __u8 bytes[16];
};

/* Key of the source prefixes. `prefix_bits` counts the 8 bits of the family too. */
struct decap_prefix {
    __u32 prefix_bits;
    struct decap_address address;
} __attribute__((packed));

/* Order of the counters' map. Names and meanings: counters.cpp; docs/backends.md has the same table. */
enum decap_counter {
    DECAP_PASSED,
    DECAP_IPIP,
    DECAP_GUE,
    DECAP_GRE,
    DECAP_NOT_A_SOURCE,
    DECAP_NOT_A_VIP,
    DECAP_OUTER_MALFORMED,
    DECAP_OUTER_FRAGMENT,
    DECAP_OUTER_TOO_LONG,
    DECAP_UDP_MALFORMED,
    DECAP_GUE_UNSUPPORTED,
    DECAP_GRE_UNSUPPORTED,
    DECAP_INNER_MALFORMED,
    DECAP_INNER_ECN,
    DECAP_FAILED,
    DECAP_SYNACK_CLAMPED,
    DECAP_SYNACK_KEPT,
    DECAP_COUNTERS,
};
