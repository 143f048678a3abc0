/* Copyright the KTR-AdV authors. SPDX-License-Identifier: Apache-2.0
 *
 * IFD handler (PC/SC driver interface 3.0) that passes every call to a process on a unix socket.
 *
 * DEVICENAME in reader.conf is "sock:PATH". One frame per call, numbers little endian:
 *   request  u8 op, u32 argument, u32 length, data
 *   reply    u32 return code, u32 length, data
 * Each reader has two connections, so that a call can be made while the other one waits for an event.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef unsigned long DWORD;
typedef long RESPONSECODE;
typedef struct { DWORD Protocol, Length; } SCARD_IO_HEADER;

enum { OK = 0, ERROR_TAG = 600, NOT_SUPPORTED = 606, NO_SUCH_DEVICE = 617, BUFFER_TOO_SMALL = 618 };
enum { OP_OPEN, OP_PRESENCE, OP_POWER, OP_TRANSMIT, OP_CONTROL, OP_POLL };
enum { READERS = 16, CALLS = 0, EVENTS = 1 };

struct channel {
	int fd;                 /* -1 when closed; guarded by lock */
	int stopped;            /* pcscd wants the wait to end; guarded by lock */
	pthread_mutex_t lock;   /* for fd and stopped */
	pthread_mutex_t in_use; /* held for the time of a request and its reply */
};

static struct reader {
	int used;
	DWORD lun;
	char path[108];
	unsigned char atr[33];
	DWORD atr_length;
	struct channel channel[2];
} readers[READERS];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

static struct reader *find(DWORD lun)
{
	struct reader *found = 0;
	pthread_mutex_lock(&table);
	for (int i = 0; i < READERS; i++)
		if (readers[i].used && readers[i].lun == lun) found = &readers[i];
	pthread_mutex_unlock(&table);
	return found;
}

static void hang_up(struct channel *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0) close(c->fd);
	c->fd = -1;
	pthread_mutex_unlock(&c->lock);
}

static int dial(struct reader *r, struct channel *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	memcpy(a.sun_path, r->path, sizeof a.sun_path);
	if (c->fd >= 0) return c->fd;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return -1;
	if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
		close(fd);
		return -1;
	}
	pthread_mutex_lock(&c->lock);
	c->fd = fd;
	pthread_mutex_unlock(&c->lock);
	return fd;
}

static int move(int fd, unsigned char *p, size_t n, int out)
{
	while (n) {
		ssize_t k = out ? send(fd, p, n, MSG_NOSIGNAL) : recv(fd, p, n, 0);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) return 0;
		p += k;
		n -= k;
	}
	return 1;
}

static void put32(unsigned char *p, uint32_t v) { for (int i = 0; i < 4; i++) p[i] = v >> 8 * i; }
static uint32_t get32(const unsigned char *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }

/* request sends one frame and waits for its reply. *length is the room in out, then what is in it. */
static RESPONSECODE request(struct reader *r, int which, int op, DWORD argument, const unsigned char *data, DWORD n,
                            unsigned char *out, DWORD *length)
{
	struct channel *c = &r->channel[which];
	unsigned char head[9], drain[256];
	RESPONSECODE rc = NO_SUCH_DEVICE;
	DWORD room = length ? *length : 0;
	pthread_mutex_lock(&c->in_use);
	int fd = dial(r, c), ok = 0;
	head[0] = op;
	put32(head + 1, argument);
	put32(head + 5, n);
	if (fd >= 0 && move(fd, head, 9, 1) && move(fd, (unsigned char *)data, n, 1) && move(fd, head, 8, 0)) {
		DWORD got = get32(head + 4), keep = got < room ? got : room;
		ok = move(fd, out, keep, 0);
		for (DWORD rest = got - keep; ok && rest;) {
			DWORD k = rest < sizeof drain ? rest : sizeof drain;
			ok = move(fd, drain, k, 0);
			rest -= k;
		}
		if (ok) {
			rc = got > room ? BUFFER_TOO_SMALL : (RESPONSECODE)get32(head);
			if (length) *length = keep;
		}
	}
	if (!ok) {
		hang_up(c);
		if (length) *length = 0;
	}
	memset(drain, 0, sizeof drain);
	pthread_mutex_unlock(&c->in_use);
	return rc;
}

static RESPONSECODE poll_event(DWORD lun, int ms)
{
	struct reader *r = find(lun);
	if (!r) return NO_SUCH_DEVICE;
	RESPONSECODE rc = request(r, EVENTS, OP_POLL, ms, 0, 0, 0, 0);
	struct channel *c = &r->channel[EVENTS];
	pthread_mutex_lock(&c->lock);
	if (c->stopped) rc = OK; /* an error would make pcscd pause for 400 ms */
	c->stopped = 0;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static RESPONSECODE stop_polling(DWORD lun)
{
	struct reader *r = find(lun);
	if (!r) return NO_SUCH_DEVICE;
	struct channel *c = &r->channel[EVENTS];
	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0) {
		c->stopped = 1;
		shutdown(c->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&c->lock);
	return OK;
}

RESPONSECODE IFDHCreateChannelByName(DWORD lun, char *name)
{
	struct reader *r = 0;
	if (strncmp(name, "sock:", 5) || strlen(name + 5) >= sizeof r->path) return NO_SUCH_DEVICE;
	pthread_mutex_lock(&table);
	for (int i = 0; i < READERS && !r; i++)
		if (!readers[i].used) r = &readers[i];
	if (r) {
		memset(r, 0, sizeof *r);
		r->used = 1;
		r->lun = lun;
		strcpy(r->path, name + 5);
		for (int i = 0; i < 2; i++) {
			r->channel[i].fd = -1;
			pthread_mutex_init(&r->channel[i].lock, 0);
			pthread_mutex_init(&r->channel[i].in_use, 0);
		}
	}
	pthread_mutex_unlock(&table);
	if (!r) return NO_SUCH_DEVICE;
	RESPONSECODE rc = request(r, CALLS, OP_OPEN, 0, 0, 0, 0, 0);
	if (rc) r->used = 0;
	return rc;
}

RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD number) { (void)lun; (void)number; return NO_SUCH_DEVICE; }

RESPONSECODE IFDHCloseChannel(DWORD lun)
{
	struct reader *r = find(lun);
	if (!r) return NO_SUCH_DEVICE;
	hang_up(&r->channel[CALLS]);
	hang_up(&r->channel[EVENTS]);
	pthread_mutex_lock(&table);
	r->used = 0;
	pthread_mutex_unlock(&table);
	return OK;
}

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, DWORD *length, unsigned char *value)
{
	struct reader *r = find(lun);
	if (!r) return NO_SUCH_DEVICE;
	const void *p;
	DWORD n = 1;
	void *event = (void *)poll_event, *stop = (void *)stop_polling;
	static const unsigned char one = 1, sixteen = READERS, zero = 0;
	switch (tag) {
	case 0x0303: p = r->atr; n = r->atr_length; break;
	case 0x0FAF: p = &sixteen; break; /* readers at the same time */
	case 0x0FAD: p = &one; break;     /* thread safe */
	case 0x0FAE: p = &one; break;     /* slots */
	case 0x0FB1: p = &zero; break;    /* the polling thread must not be killed */
	case 0x0FB3: p = &event; n = sizeof event; break;
	case 0x0FB2: p = &stop; n = sizeof stop; break;
	default: return ERROR_TAG;
	}
	if (*length < n) return BUFFER_TOO_SMALL;
	memcpy(value, p, n);
	*length = n;
	return OK;
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, unsigned char *value)
{
	(void)lun; (void)tag; (void)length; (void)value;
	return ERROR_TAG;
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, unsigned char flags, unsigned char p1, unsigned char p2, unsigned char p3)
{
	(void)protocol; (void)flags; (void)p1; (void)p2; (void)p3;
	return find(lun) ? OK : NO_SUCH_DEVICE;
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, unsigned char *atr, DWORD *length)
{
	struct reader *r = find(lun);
	if (!r) return NO_SUCH_DEVICE;
	r->atr_length = sizeof r->atr;
	RESPONSECODE rc = request(r, CALLS, OP_POWER, action, 0, 0, r->atr, &r->atr_length);
	if (rc) r->atr_length = 0;
	memcpy(atr, r->atr, r->atr_length);
	*length = r->atr_length;
	return rc;
}

RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER send_header, unsigned char *in, DWORD n, unsigned char *out,
                               DWORD *length, SCARD_IO_HEADER *receive_header)
{
	struct reader *r = find(lun);
	if (receive_header) *receive_header = send_header;
	return r ? request(r, CALLS, OP_TRANSMIT, send_header.Protocol, in, n, out, length) : NO_SUCH_DEVICE;
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, unsigned char *in, DWORD n, unsigned char *out, DWORD room, DWORD *returned)
{
	struct reader *r = find(lun);
	*returned = room;
	RESPONSECODE rc = r ? request(r, CALLS, OP_CONTROL, code, in, n, out, returned) : NO_SUCH_DEVICE;
	if (rc) *returned = 0;
	return rc;
}

RESPONSECODE IFDHICCPresence(DWORD lun)
{
	struct reader *r = find(lun);
	return r ? request(r, CALLS, OP_PRESENCE, 0, 0, 0, 0, 0) : NO_SUCH_DEVICE;
}
