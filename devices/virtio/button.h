/*
 * A power button: a virtio-input device (5.8) with one key, KEY_POWER. Operating systems take it
 * for what it is without being told: Linux's driver makes an input device of it, at which
 * systemd-logind listens.
 */
#ifndef STAG_DEVICES_VIRTIO_BUTTON_H
#define STAG_DEVICES_VIRTIO_BUTTON_H

#include "devices/virtio/virtio.h"

/* Part of boards, not for -device. */
extern const VirtioClass virtio_button_class;

/* Presses and releases the button; any thread, takes the lock. Returns whether the guest has a
 * driver that takes it; then the guest sees it as soon as it has given the device a buffer. */
bool virtio_button_press(VirtioDevice *d);

#endif
