/*
 * virtio-serial (5.3): consoles and plain byte streams between guest and host. The device is
 * `virtio-serial`; its ports are devices of their own on the command line, `virtconsole` and
 * `virtserialport`, and are added before the machine starts.
 */
#ifndef STAG_DEVICES_VIRTIO_CONSOLE_H
#define STAG_DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio/virtio.h"

extern const VirtioClass virtio_serial_class;

/* What stands behind `-device virtconsole,` and `-device virtserialport,`, for help. */
extern const PropDesc virtio_port_props[];
extern const unsigned virtio_port_prop_count;

/* Adds a port to a virtio-serial device, as the text says: "chardev=c0,name=org.example". Port 0 is
 * for a console; other ports come in order of their addition unless `nr` says where. False with a
 * sentence. */
bool virtio_serial_add_port(VirtioDevice *serial, bool is_console, const char *text, GError **err);

#endif
