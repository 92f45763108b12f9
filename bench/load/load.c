/* Load for benches: gRPC calls over HTTP/2 whose headers differ from call to call, as real clients' do.
 *
 *   load --port N [--connections 4] [--streams 8] [--calls 10000] [--path /a.B/C] [--body FILE] [--vary] [--sample N]
 *        [--rate N] [--authorization TEXT] [--key PEM --ca PEM --certificate PEM | --identities FOLDER --first N] [--ciphers SUITES] [--wait]
 *
 * Connects to loopback, says "ready" once every connection is up, with --wait stands by for SIGUSR1, makes the calls,
 * prints one line of JSON, and with --wait keeps its connections until it is ended: so that handshakes and calls can be
 * told apart. A closed loop of connections x streams calls; with --rate an open one, a call each 1/rate s on the
 * connection that has rested longest, its latency counted from when it was due.
 *
 * --vary gives each call a traceparent, a grpc-timeout and an x-request-id of its own, else all have the same; every
 * --sample-th traceparent says that its call is sampled. The table of HPACK is used as libnghttp2 does by default.
 * With --identities connection 0 presents FOLDER/N.pem, connection 1 the next one, all of them for the one key.
 * A call counts by its gRPC status; what got none counts as "none".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 4 << 20, CONNECTION_WINDOW = 64 << 20, BUFFER = 64 << 10, STATUSES = 17, NONE = STATUSES };
enum { HANDSHAKES = 16 }; /* in progress at once: a server may refuse more */

typedef struct call {
    int64_t due; /* ns */
    size_t sent; /* bytes of the body */
    int status;  /* gRPC's, NONE until it came */
} call;

typedef struct connection {
    int fd;
    SSL *tls; /* NULL in plaintext */
    nghttp2_session *http;
    bool secure; /* the handshake is over, or not asked for */
    bool ready;  /* the server's SETTINGS came */
    int open;    /* calls */
    uint8_t out[BUFFER + (32 << 10)];
    size_t begin, end; /* of what waits in `out` */
    uint32_t watched;
    struct connection *next; /* in the line of those that rest */
} connection;

static struct {
    int port, connections, streams, rate, sample, first;
    int64_t calls;
    const char *path, *body, *certificate, *identities, *key, *ca, *ciphers, *authorization;
    bool vary, wait;
} option = {.connections = 4, .streams = 8, .calls = 10000, .path = "/inference.GRPCInferenceService/ModelInfer",
            .ciphers = "TLS_AES_128_GCM_SHA256", .authorization = ""};

static int poller, timer = -1;
static uint8_t *body;
static size_t body_size;
static int64_t begun, done, began, data_bytes, *latencies, counts[STATUSES + 1];
static int ready_count;
static char authority[32], tls_name[64];
static connection *resting, **rest_end = &resting;
static uint64_t chance = 0x9e3779b97f4a7c15;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static uint64_t random64(void) { /* xorshift64*: ids need be unlike each other, no more */
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return chance * UINT64_C(2685821657736338717);
}

/* --- one call -------------------------------------------------------------------------------------------------- */

static ssize_t read_body(nghttp2_session *http, int32_t id, uint8_t *into, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user) {
    call *one = source->ptr;
    size_t count = body_size - one->sent;
    (void)http, (void)id, (void)user;
    if (count > room)
        count = room;
    memcpy(into, body + one->sent, count);
    one->sent += count;
    if (one->sent == body_size)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)count;
}

static nghttp2_nv field(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void begin_call(connection *c, int64_t due) {
    static uint64_t trace = 0x4bf92f3577b34da6, span = 0x00f067aa0ba902b7, request = 0x5bd1e995;
    static unsigned timeout = 30000; /* ms */
    char parent[64], deadline[16], id[24];
    call *one = calloc(1, sizeof *one);
    if (option.vary)
        trace = random64(), span = random64() | 1, request = random64(), timeout = 10000 + random64() % 80000;
    bool sampled = option.sample && begun % option.sample == 0;
    snprintf(parent, sizeof parent, "00-%016" PRIx64 "a3ce929d0e0e4736-%016" PRIx64 "-0%d", trace, span, sampled);
    snprintf(deadline, sizeof deadline, "%um", timeout);
    snprintf(id, sizeof id, "%016" PRIx64, request);
    const nghttp2_nv head[] = {
        field(":method", "POST"),      field(":scheme", c->tls ? "https" : "http"),
        field(":path", option.path),   field(":authority", authority),
        field("te", "trailers"),       field("content-type", "application/grpc"),
        field("user-agent", "load/1"), field("grpc-timeout", deadline),
        field("traceparent", parent),  field("x-request-id", id),
        field("authorization", option.authorization),
    };
    size_t fields = sizeof head / sizeof *head - (*option.authorization ? 0 : 1);
    nghttp2_data_provider from = {.source = {.ptr = one}, .read_callback = read_body};
    one->due = due;
    one->status = NONE;
    if (nghttp2_submit_request(c->http, NULL, head, fields, &from, one) < 0)
        fail("cannot begin a call: the connection takes no more streams");
    c->open++;
    begun++;
}

static int on_header(nghttp2_session *http, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t size, uint8_t flags, void *user) {
    call *one = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
    (void)flags, (void)user;
    if (one && name_size == 11 && !memcmp(name, "grpc-status", 11)) {
        int status = size == 0 || size > 2 ? STATUSES : 0;
        for (size_t at = 0; at < size && status < STATUSES; at++)
            status = value[at] < '0' || value[at] > '9' ? STATUSES : status * 10 + value[at] - '0';
        one->status = status < STATUSES ? status : NONE;
    }
    return 0;
}

static int on_data(nghttp2_session *http, uint8_t flags, int32_t id, const uint8_t *octets, size_t size, void *user) {
    (void)http, (void)flags, (void)id, (void)octets, (void)user;
    data_bytes += (int64_t)size;
    return 0;
}

static void rest(connection *c) {
    c->next = NULL;
    *rest_end = c;
    rest_end = &c->next;
}

static int on_close(nghttp2_session *http, int32_t id, uint32_t code, void *user) {
    connection *c = user;
    call *one = nghttp2_session_get_stream_user_data(http, id);
    (void)code;
    if (!one)
        return 0;
    counts[one->status]++;
    latencies[done++] = now() - one->due;
    free(one);
    c->open--;
    if (option.rate)
        rest(c);
    else if (begun < option.calls)
        begin_call(c, now());
    return 0;
}

static int on_frame(nghttp2_session *http, const nghttp2_frame *frame, void *user) {
    connection *c = user;
    (void)http;
    if (!c->ready && frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        c->ready = true;
        ready_count++;
        rest(c);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        fail("the server ended a connection with GOAWAY, code %u", frame->goaway.error_code);
    }
    return 0;
}

/* --- one connection -------------------------------------------------------------------------------------------- */

static void watch(connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (events == c->watched)
        return;
    if (epoll_ctl(poller, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
    c->watched = events;
}

/* Bytes moved, 0 when the connection would block. */
static size_t moved(connection *c, ssize_t count, const char *what) {
    if (count > 0)
        return (size_t)count;
    if (c->tls) {
        int why = SSL_get_error(c->tls, (int)count);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
            return 0;
        fail("cannot %s over TLS: %s", what, ERR_reason_error_string(ERR_get_error()) ?: "connection closed");
    }
    if (count < 0 && errno == EAGAIN)
        return 0;
    fail("cannot %s: %s", what, count ? strerror(errno) : "connection closed");
    return 0;
}

static void flush(connection *c) {
    for (;;) {
        const uint8_t *octets;
        while (c->end < BUFFER) { /* a frame fits behind: its payload is 16 KB at most */
            ssize_t count = nghttp2_session_mem_send(c->http, &octets);
            if (count < 0)
                fail("libnghttp2: %s", nghttp2_strerror((int)count));
            if (!count)
                break;
            memcpy(c->out + c->end, octets, (size_t)count);
            c->end += (size_t)count;
        }
        if (c->begin == c->end)
            break;
        size_t size = c->end - c->begin;
        ssize_t count = c->tls ? SSL_write(c->tls, c->out + c->begin, (int)size) : write(c->fd, c->out + c->begin, size);
        if (!(count = (ssize_t)moved(c, count, "send")))
            break;
        c->begin += (size_t)count;
        if (c->begin == c->end)
            c->begin = c->end = 0;
    }
    watch(c, EPOLLIN | (c->end > c->begin ? EPOLLOUT : 0));
}

static void greet(connection *c) {
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
                                               {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    c->secure = true;
    nghttp2_submit_settings(c->http, 0, settings, 2);
    nghttp2_session_set_local_window_size(c->http, 0, 0, CONNECTION_WINDOW);
}

static void shake(connection *c) {
    int result = SSL_connect(c->tls);
    if (result != 1) {
        int why = SSL_get_error(c->tls, result);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            fail("TLS handshake: %s", ERR_reason_error_string(ERR_get_error()) ?: "connection closed");
        watch(c, why == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN);
        return;
    }
    const unsigned char *protocol;
    unsigned size;
    SSL_get0_alpn_selected(c->tls, &protocol, &size);
    if (size != 2 || memcmp(protocol, "h2", 2))
        fail("the server does not speak h2");
    snprintf(tls_name, sizeof tls_name, "%s %s", SSL_get_version(c->tls), SSL_get_cipher_name(c->tls));
    greet(c);
}

static void receive(connection *c) {
    static uint8_t octets[BUFFER];
    for (;;) {
        ssize_t count = c->tls ? SSL_read(c->tls, octets, BUFFER) : read(c->fd, octets, BUFFER);
        size_t size = moved(c, count, "receive");
        if (!size)
            return;
        ssize_t taken = nghttp2_session_mem_recv(c->http, octets, size);
        if (taken < 0)
            fail("libnghttp2: %s", nghttp2_strerror((int)taken));
        if (!c->tls && size < BUFFER)
            return;
    }
}

static SSL_CTX *context(void) {
    static const unsigned char alpn[] = {2, 'h', '2'};
    SSL_CTX *made = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
    SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(made, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_set_alpn_protos(made, alpn, sizeof alpn) || SSL_CTX_set_ciphersuites(made, option.ciphers) != 1 ||
        SSL_CTX_load_verify_locations(made, option.ca, NULL) != 1 ||
        (option.certificate && SSL_CTX_use_certificate_chain_file(made, option.certificate) != 1) ||
        SSL_CTX_use_PrivateKey_file(made, option.key, SSL_FILETYPE_PEM) != 1)
        fail("TLS: %s", ERR_reason_error_string(ERR_get_error()));
    return made;
}

static void dial(connection *c, int number, SSL_CTX *tls, const nghttp2_session_callbacks *callbacks) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port)};
    int one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to))
        fail("cannot connect to 127.0.0.1:%d: %s", option.port, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    nghttp2_session_client_new(&c->http, callbacks, c);
    if (tls) {
        c->tls = SSL_new(tls);
        SSL_set_fd(c->tls, c->fd);
        if (option.identities) {
            char file[4096];
            snprintf(file, sizeof file, "%s/%d.pem", option.identities, option.first + number);
            if (SSL_use_certificate_file(c->tls, file, SSL_FILETYPE_PEM) != 1 ||
                SSL_use_PrivateKey_file(c->tls, option.key, SSL_FILETYPE_PEM) != 1)
                fail("%s: %s", file, ERR_reason_error_string(ERR_get_error()));
        }
        SSL_set_tlsext_host_name(c->tls, "localhost");
        shake(c);
    } else {
        greet(c);
    }
    if (c->secure)
        flush(c);
}

/* --- all of them ----------------------------------------------------------------------------------------------- */

static void begin_due(void) {
    int64_t at = now();
    while (begun < option.calls && resting) {
        int64_t due = began + begun * INT64_C(1000000000) / option.rate;
        if (due > at) {
            struct itimerspec when = {.it_value = {due / 1000000000, due % 1000000000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
            return;
        }
        connection *c = resting;
        if (!(resting = c->next))
            rest_end = &resting;
        begin_call(c, due);
        flush(c);
    }
}

static void begin_all(connection *all) {
    began = now();
    if (option.rate) {
        begin_due();
        return;
    }
    for (int stream = 0; stream < option.streams; stream++)
        for (int at = 0; at < option.connections && begun < option.calls; at++)
            begin_call(&all[at], now());
    for (int at = 0; at < option.connections; at++)
        flush(&all[at]);
}

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void report(void) {
    double seconds = (double)(now() - began) / 1e9;
    const char *comma = "";
    qsort(latencies, (size_t)done, sizeof *latencies, ascending);
    printf("{\"calls\": %" PRId64 ", \"statuses\": {", done);
    for (int status = 0; status <= NONE; status++)
        if (counts[status]) {
            if (status == NONE)
                printf("%s\"none\": %" PRId64, comma, counts[status]);
            else
                printf("%s\"%d\": %" PRId64, comma, status, counts[status]);
            comma = ", ";
        }
    printf("}, \"data\": %" PRId64 ", \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"tls\": "
           "\"%s\"}\n",
           data_bytes, seconds, (double)done / seconds, (double)latencies[done / 2] / 1e3,
           (double)latencies[done * 99 / 100] / 1e3, tls_name);
    fflush(stdout);
}

static void read_file(void) {
    FILE *file = fopen(option.body, "rb");
    if (!file)
        fail("%s: %s", option.body, strerror(errno));
    fseek(file, 0, SEEK_END);
    body_size = (size_t)ftell(file);
    rewind(file);
    body = malloc(body_size + 1);
    if (fread(body, 1, body_size, file) != body_size)
        fail("%s: cannot be read whole", option.body);
    fclose(file);
}

static void read_options(int count, char **texts) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},        {"connections", 1, 0, 'c'}, {"streams", 1, 0, 'm'}, {"calls", 1, 0, 'n'},
        {"path", 1, 0, 'u'},        {"body", 1, 0, 'd'},        {"vary", 0, 0, 'v'},    {"sample", 1, 0, 's'},
        {"rate", 1, 0, 'r'},        {"certificate", 1, 0, 'x'}, {"key", 1, 0, 'k'},     {"ca", 1, 0, 'a'},
        {"ciphers", 1, 0, 'i'},     {"identities", 1, 0, 'I'},  {"first", 1, 0, 'f'},   {"wait", 0, 0, 'w'},
        {"authorization", 1, 0, 'A'}, {0, 0, 0, 0}};
    for (int letter; (letter = getopt_long(count, texts, "", known, NULL)) != -1;)
        switch (letter) {
        case 'p': option.port = atoi(optarg); break;
        case 'c': option.connections = atoi(optarg); break;
        case 'm': option.streams = atoi(optarg); break;
        case 'n': option.calls = atoll(optarg); break;
        case 'u': option.path = optarg; break;
        case 'd': option.body = optarg; break;
        case 'v': option.vary = true; break;
        case 's': option.sample = atoi(optarg); break;
        case 'r': option.rate = atoi(optarg); break;
        case 'x': option.certificate = optarg; break;
        case 'k': option.key = optarg; break;
        case 'a': option.ca = optarg; break;
        case 'i': option.ciphers = optarg; break;
        case 'I': option.identities = optarg; break;
        case 'f': option.first = atoi(optarg); break;
        case 'w': option.wait = true; break;
        case 'A': option.authorization = optarg; break;
        default: exit(2);
        }
    if (option.port <= 0 || option.connections <= 0 || option.streams <= 0 || option.calls <= 0 || option.rate < 0)
        fail("--port, --connections, --streams and --calls are above 0");
    if (!(option.certificate || option.identities) != !option.key || !option.key != !option.ca)
        fail("--key, --ca and --certificate or --identities go together");
}

int main(int count, char **texts) {
    struct epoll_event events[256];
    sigset_t signals;
    bool told = false, running = false;
    read_options(count, texts);
    if (option.body)
        read_file();
    latencies = malloc((size_t)option.calls * sizeof *latencies);
    snprintf(authority, sizeof authority, "127.0.0.1:%d", option.port);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int start = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &timer});
    epoll_ctl(poller, EPOLL_CTL_ADD, start, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &start});

    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    SSL_CTX *tls = option.key ? context() : NULL;
    connection *all = calloc((size_t)option.connections, sizeof *all);
    int dialled = 0;

    while (done < option.calls) {
        for (; dialled < option.connections && dialled - ready_count < HANDSHAKES; dialled++)
            dial(&all[dialled], dialled, tls, callbacks);
        int found = epoll_wait(poller, events, 256, -1);
        for (int at = 0; at < found; at++) {
            connection *c = events[at].data.ptr;
            if ((void *)c == &timer) {
                uint64_t fired;
                (void)!read(timer, &fired, sizeof fired);
            } else if ((void *)c == &start) {
                struct signalfd_siginfo caught;
                (void)!read(start, &caught, sizeof caught);
                running = told;
                if (running && !begun)
                    begin_all(all);
            } else {
                if (!c->secure)
                    shake(c);
                if (c->secure) {
                    receive(c);
                    flush(c);
                }
            }
        }
        if (!told && ready_count == option.connections) {
            told = true;
            puts("ready");
            fflush(stdout);
            if (!option.wait) {
                running = true;
                begin_all(all);
            }
        }
        if (running && option.rate)
            begin_due();
    }
    report();
    while (option.wait)
        pause();
    return counts[0] == option.calls ? 0 : 3;
}
