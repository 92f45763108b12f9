/* The model server of benches: gRPC over plaintext HTTP/2 on loopback, cheap enough not to be what limits them.
 *
 *   echo PORT
 *
 * Answers each call with its request's bytes, and one of a method whose name ends in "Stream" with MESSAGES messages of
 * MESSAGE bytes, each in a DATA frame of its own; with status 0 either way.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGES = 100, MESSAGE = 200, PREFIX = 5, WINDOW = 16 << 20, CONNECTION_WINDOW = 64 << 20, OUT = 256 << 10 };

typedef struct {
    uint8_t *octets; /* of the answer: the request's, or one message */
    size_t size, room, sent;
    bool streams;
    int left; /* times that `octets` are still to be sent, 0 for once */
} call;

typedef struct {
    int fd;
    nghttp2_session *http;
    uint8_t out[OUT + (32 << 10)];
    size_t begin, end; /* of what waits in `out` */
    uint32_t watched;
} connection;

static int poller;

#define FIELD(name, value) \
    { (uint8_t *)name, (uint8_t *)value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NONE }

static ssize_t answer(nghttp2_session *http, int32_t id, uint8_t *into, size_t room, uint32_t *flags,
                      nghttp2_data_source *source, void *user) {
    static const nghttp2_nv trailers[] = {FIELD("grpc-status", "0")};
    call *one = source->ptr;
    size_t count = one->size - one->sent;
    (void)user;
    if (count > room)
        count = room;
    memcpy(into, one->octets + one->sent, count);
    one->sent += count;
    if (one->sent == one->size && one->left > 1) {
        one->left--;
        one->sent = 0;
    } else if (one->sent == one->size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(http, id, trailers, 1);
    }
    return (ssize_t)count;
}

static int on_begin(nghttp2_session *http, const nghttp2_frame *frame, void *user) {
    (void)user;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        nghttp2_session_set_stream_user_data(http, frame->hd.stream_id, calloc(1, sizeof(call)));
    return 0;
}

static int on_header(nghttp2_session *http, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t size, uint8_t flags, void *user) {
    call *one = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
    (void)flags, (void)user;
    if (one && name_size == 5 && !memcmp(name, ":path", 5) && size > 6 && !memcmp(value + size - 6, "Stream", 6)) {
        static const uint8_t prefix[PREFIX] = {0, 0, 0, 0, MESSAGE};
        one->streams = true;
        one->left = MESSAGES;
        one->size = PREFIX + MESSAGE;
        one->octets = malloc(one->size);
        memset(one->octets, 's', one->size);
        memcpy(one->octets, prefix, PREFIX);
    }
    return 0;
}

static int on_data(nghttp2_session *http, uint8_t flags, int32_t id, const uint8_t *octets, size_t size, void *user) {
    call *one = nghttp2_session_get_stream_user_data(http, id);
    (void)flags, (void)user;
    if (one->streams)
        return 0;
    if (one->size + size > one->room)
        one->octets = realloc(one->octets, one->room = 2 * (one->size + size));
    memcpy(one->octets + one->size, octets, size);
    one->size += size;
    return 0;
}

static int on_frame(nghttp2_session *http, const nghttp2_frame *frame, void *user) {
    static const nghttp2_nv head[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc"),
                                      FIELD("grpc-accept-encoding", "identity, deflate, gzip")};
    (void)user;
    if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        call *one = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
        nghttp2_data_provider from = {.source = {.ptr = one}, .read_callback = answer};
        nghttp2_submit_response(http, frame->hd.stream_id, head, sizeof head / sizeof *head, &from);
    }
    return 0;
}

static int on_close(nghttp2_session *http, int32_t id, uint32_t code, void *user) {
    call *one = nghttp2_session_get_stream_user_data(http, id);
    (void)code, (void)user;
    if (one) {
        free(one->octets);
        free(one);
    }
    return 0;
}

static void watch(connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (events != c->watched)
        epoll_ctl(poller, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->watched = events;
}

/* Send what there is. False once the connection is of no more use. */
static bool flush(connection *c) {
    for (;;) {
        const uint8_t *octets;
        while (c->end < OUT) { /* a frame fits behind: its payload is 16 KB at most */
            ssize_t count = nghttp2_session_mem_send(c->http, &octets);
            if (count < 0)
                return false;
            if (!count)
                break;
            memcpy(c->out + c->end, octets, (size_t)count);
            c->end += (size_t)count;
        }
        if (c->begin == c->end)
            break;
        ssize_t count = write(c->fd, c->out + c->begin, c->end - c->begin);
        if (count < 0 && errno == EAGAIN)
            break;
        if (count < 0)
            return false;
        c->begin += (size_t)count;
        if (c->begin == c->end)
            c->begin = c->end = 0;
    }
    watch(c, EPOLLIN | (c->end > c->begin ? EPOLLOUT : 0));
    return nghttp2_session_want_read(c->http) || nghttp2_session_want_write(c->http);
}

static void take(int listener, const nghttp2_session_callbacks *callbacks) {
    static const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 10000},
                                                      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW}};
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = calloc(1, sizeof *c);
    c->fd = fd;
    nghttp2_session_server_new(&c->http, callbacks, c);
    nghttp2_submit_settings(c->http, 0, settings, 2);
    nghttp2_session_set_local_window_size(c->http, 0, 0, CONNECTION_WINDOW);
    flush(c);
}

static bool receive(connection *c) {
    static uint8_t octets[OUT];
    ssize_t count = read(c->fd, octets, OUT);
    if (count < 0)
        return errno == EAGAIN;
    return count && nghttp2_session_mem_recv(c->http, octets, (size_t)count) >= 0;
}

int main(int count, char **texts) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct epoll_event events[64];
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (count != 2) {
        fputs("usage: echo PORT\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    at.sin_port = htons((uint16_t)atoi(texts[1]));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) {
        perror("echo");
        return 1;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});

    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    for (;;) {
        int found = epoll_wait(poller, events, 64, -1);
        for (int number = 0; number < found; number++) {
            connection *c = events[number].data.ptr;
            if (!c) {
                take(listener, callbacks);
            } else if (!receive(c) || !flush(c)) {
                close(c->fd);
                nghttp2_session_del(c->http);
                free(c);
            }
        }
    }
}
