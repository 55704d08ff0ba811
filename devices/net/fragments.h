/*
 * Puts IPv4 datagrams together from fragments (RFC 791, 815). Memory is bounded: a few datagrams at
 * a time, and the oldest makes room for a new one. Fragments that overlap others are dropped, as
 * RFC 5722 has it for IPv6: nobody needs them but attackers.
 */
#ifndef STAG_DEVICES_NET_FRAGMENTS_H
#define STAG_DEVICES_NET_FRAGMENTS_H

#include "devices/net/packet.h"

typedef struct Fragments Fragments;

Fragments *fragments_new(void);
void fragments_free(Fragments *f); /* NULL is allowed */

/* Adds a frame with a fragment; *p is what packet_parse says of it, without VLAN tags and IP
 * options. If that completes a datagram, returns a frame with it, complete with the header's
 * checksum, and its length; it is valid until the next call. Else NULL. */
u8 *fragments_add(Fragments *f, const u8 *frame, const Packet *p, size_t *len);

#endif
