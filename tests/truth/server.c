/* A paced SSE server that plays an OpenAI-compatible engine and logs when it truly sent each token.
 *
 * One thread, one epoll. Streams wait in a heap by due time; what is due stands in a ring, and each turn of the
 * ring is one write of one stream. README.md has the knobs; server.py is the same server in Python.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the log is written as little-endian int64"
#endif

enum { EVENTS = 512, TURNS = 64, READ_MIN = 16384, ENDLESS_BYTES = 65536 };

enum usage { USAGE_FINAL, USAGE_CONTINUOUS, USAGE_NONE };
enum framing { CHUNKED, LENGTH, UNTIL_CLOSE };
enum fault { NONE, STALL, PAUSE, RESET, CLOSE, GARBAGE, ERROR, ENDLESS, STATUS };
enum kind { COMPLETION, CONTENT, REASONING, TOOL, ROLE, KINDS };
enum phase { IDLE, HEAD, TOKENS, ENDLESS_LINE, STALLED, END };

static struct {
    int64_t port, stdin_, ttft_us, itl_us, jitter_us, slow_start_us, stall_us, spin_us;
    int64_t tokens_per_chunk, events_per_write, split, output_tok, prompt_extra, prompt_fixed, cached;
    int64_t role_chunk, empty_chunks, reasoning, tool_calls, usage, done, framing, keep_alive, head_early;
    int64_t fault, fault_after, fault_every, status, metrics;
    const char *log, *model;
} knob = {.tokens_per_chunk = 1, .events_per_write = 1, .output_tok = -1, .prompt_fixed = -1, .cached = -1, .done = 1,
          .keep_alive = 1, .head_early = 1, .fault_every = 1, .status = 500, .metrics = 1, .spin_us = 200};

/* `choices` where a word is asked for: the number is its place among them. */
static const struct {
    const char *name;
    int64_t *number;
    const char **text, *choices;
} OPTIONS[] = {
    {"port", &knob.port, NULL, NULL},
    {"stdin", &knob.stdin_, NULL, NULL},
    {"log", NULL, &knob.log, NULL},
    {"model", NULL, &knob.model, NULL},
    {"ttft-us", &knob.ttft_us, NULL, NULL},
    {"itl-us", &knob.itl_us, NULL, NULL},
    {"jitter-us", &knob.jitter_us, NULL, NULL},
    {"slow-start-us", &knob.slow_start_us, NULL, NULL},
    {"stall-us", &knob.stall_us, NULL, NULL},
    {"spin-us", &knob.spin_us, NULL, NULL},
    {"tokens-per-chunk", &knob.tokens_per_chunk, NULL, NULL},
    {"events-per-write", &knob.events_per_write, NULL, NULL},
    {"split", &knob.split, NULL, NULL},
    {"output-tok", &knob.output_tok, NULL, NULL},
    {"prompt-extra", &knob.prompt_extra, NULL, NULL},
    {"prompt-fixed", &knob.prompt_fixed, NULL, NULL},
    {"cached", &knob.cached, NULL, NULL},
    {"role-chunk", &knob.role_chunk, NULL, NULL},
    {"empty-chunks", &knob.empty_chunks, NULL, NULL},
    {"reasoning", &knob.reasoning, NULL, NULL},
    {"tool-calls", &knob.tool_calls, NULL, NULL},
    {"usage", &knob.usage, NULL, "final|continuous|none"},
    {"done", &knob.done, NULL, NULL},
    {"framing", &knob.framing, NULL, "chunked|length|close"},
    {"keep-alive", &knob.keep_alive, NULL, NULL},
    {"head-early", &knob.head_early, NULL, NULL},
    {"fault", &knob.fault, NULL, "none|stall|pause|reset|close|garbage|error|endless-line|status"},
    {"fault-after", &knob.fault_after, NULL, NULL},
    {"fault-every", &knob.fault_every, NULL, NULL},
    {"status", &knob.status, NULL, NULL},
    {"metrics", &knob.metrics, NULL, NULL},
};

typedef struct {
    char *at;
    size_t size, room;
} bytes;

typedef struct conn {
    int fd;
    bool ringed, closing, chat, want_usage, faulty, faulted, headed;
    enum phase phase;
    int code;
    const char *why; /* of a code that is not 200 */
    bytes in, out;
    size_t out_from;
    size_t heap_at; /* 1-based; 0 where it is not in the heap */
    int64_t number, record, prompt_tok, total_tok, sent_tok;
    int64_t base_ns, due_ns; /* when the first token is due; when the next write is */
    struct conn *next;
} conn;

typedef struct {
    int64_t received_ns, status, prompt_tok, output_tok, connection, head_ns, end_ns, events;
} record;
typedef struct {
    int64_t record, send_ns, tok;
} event;

static struct { record *at; size_t size, room; } records;
static struct { event *at; size_t size, room; } events;
static struct { conn **at; size_t size, room; } heap;
static struct { conn **at; size_t head, size, room; } ring;
static conn *spare;
static bytes scratch, json, *token_events[KINDS], role_event, empty_events[KINDS];
static int epoll_fd, timer_fd, signal_fd, listen_fd;
static int64_t armed_ns;
static struct { int64_t requests, events, tokens, connections, prompt_tok, hit_tok; } count;
static const char *model_name = "truth";

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Room for one more element of a growing array. */
#define GROW(array)                                                                                  \
    do {                                                                                             \
        if ((array).size == (array).room) {                                                          \
            (array).room = (array).room ? 2 * (array).room : 1024;                                   \
            (array).at = realloc((array).at, (array).room * sizeof *(array).at);                     \
            if (!(array).at) die("realloc");                                                         \
        }                                                                                            \
    } while (0)

static void reserve(bytes *b, size_t more) {
    if (b->size + more <= b->room) return;
    size_t room = b->room ? b->room : 256;
    while (room < b->size + more) room *= 2;
    if (!(b->at = realloc(b->at, room))) die("realloc");
    b->room = room;
}

static void put(bytes *b, const void *from, size_t size) {
    if (!size) return;
    reserve(b, size);
    memcpy(b->at + b->size, from, size);
    b->size += size;
}

__attribute__((format(printf, 2, 3))) static void putf(bytes *b, const char *format, ...) {
    for (;;) {
        va_list args;
        va_start(args, format);
        size_t left = b->room - b->size;
        size_t size = (size_t)vsnprintf(b->at ? b->at + b->size : NULL, left, format, args);
        va_end(args);
        if (size < left) {
            b->size += size;
            return;
        }
        reserve(b, size + 1);
    }
}

/* ---- what is sent ---- */

static void put_chunk(bytes *to, const bytes *data) {
    if (knob.framing == CHUNKED) putf(to, "%zx\r\n", data->size);
    put(to, data->at, data->size);
    if (knob.framing == CHUNKED) put(to, "\r\n", 2);
}

static void put_usage(bytes *to, const conn *c) {
    putf(to, "\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld,\"completion_tokens\":%ld,\"prompt_tokens_details\":",
         (long)c->prompt_tok, (long)(c->prompt_tok + c->sent_tok), (long)c->sent_tok);
    if (knob.cached < 0) putf(to, "null}");
    else putf(to, "{\"cached_tokens\":%ld}}", (long)knob.cached);
}

static void put_opening(bytes *to, bool chat) {
    putf(to, "data: {\"id\":\"%s-7f3c0d5e8a914b26b1d4\",\"object\":\"%s\",\"created\":1760000000,\"model\":\"%s\",",
         chat ? "chatcmpl" : "cmpl", chat ? "chat.completion.chunk" : "text_completion", model_name);
}

/* One SSE event; `usage_of` only where every event carries the usage. */
static void put_event(bytes *to, enum kind kind, int64_t tok, const char *finish, const conn *usage_of) {
    static const char *const BEFORE[] = {
        "\"text\":\"", "\"delta\":{\"content\":\"", "\"delta\":{\"reasoning_content\":\"",
        "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"",
        "\"delta\":{\"role\":\"assistant\",\"content\":\""};
    static const char *const AFTER[] = {"\"", "\"}", "\"}", "\"}}]}", "\"}"};
    json.size = 0;
    put_opening(&json, kind != COMPLETION);
    putf(&json, "\"choices\":[{\"index\":0,%s", BEFORE[kind]);
    while (tok-- > 0) put(&json, " tok", 4);
    putf(&json, "%s,\"logprobs\":null,\"finish_reason\":%s}]", AFTER[kind], finish);
    if (usage_of) {
        putf(&json, ",");
        put_usage(&json, usage_of);
    }
    putf(&json, "}\n\n");
    put_chunk(to, &json);
}

static void put_line(bytes *to, const char *line) {
    json.size = 0;
    putf(&json, "%s\n\n", line);
    put_chunk(to, &json);
}

static void put_done(bytes *to) {
    if (knob.done) put_line(to, "data: [DONE]");
    if (knob.framing == CHUNKED) put(to, "0\r\n\r\n", 5);
}

static void put_tail(bytes *to, const conn *c) {
    const conn *usage_of = knob.usage == USAGE_CONTINUOUS ? c : NULL;
    put_event(to, c->chat ? CONTENT : COMPLETION, 0, "\"length\"", usage_of);
    if (knob.usage == USAGE_CONTINUOUS || (knob.usage == USAGE_FINAL && c->want_usage)) {
        json.size = 0;
        put_opening(&json, c->chat);
        putf(&json, "\"choices\":[],");
        put_usage(&json, c);
        putf(&json, "}\n\n");
        put_chunk(to, &json);
    }
    put_done(to);
}

static void put_head(bytes *to, const conn *c, int64_t length) {
    putf(to, "HTTP/1.1 200 OK\r\nserver: truth\r\ncontent-type: text/event-stream; charset=utf-8\r\n");
    if (c->closing) putf(to, "connection: close\r\n");
    if (knob.framing == CHUNKED) putf(to, "transfer-encoding: chunked\r\n");
    if (knob.framing == LENGTH) putf(to, "content-length: %ld\r\n", (long)length);
    put(to, "\r\n", 2);
}

static void put_answer(bytes *to, const conn *c, int code, const char *type, const bytes *body) {
    putf(to, "HTTP/1.1 %d %s\r\nserver: truth\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n", code,
         code == 200 ? "OK" : "Error", type, body->size, c->closing ? "connection: close\r\n" : "");
    put(to, body->at, body->size);
}

static void put_error(bytes *to, const conn *c, int code, const char *why) {
    json.size = 0;
    putf(&json, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%d}}", why,
         code == 404 ? "NotFoundError" : code < 500 ? "BadRequestError" : "InternalServerError", code);
    put_answer(to, c, code, "application/json", &json);
}

static void build_events(void) {
    for (enum kind kind = COMPLETION; kind <= TOOL; kind++) {
        put_event(&empty_events[kind], kind, 0, "null", NULL);
        token_events[kind] = calloc((size_t)knob.tokens_per_chunk + 1, sizeof(bytes));
        if (!token_events[kind]) die("calloc");
        for (int64_t tok = 1; tok <= knob.tokens_per_chunk; tok++)
            put_event(&token_events[kind][tok], kind, tok, "null", NULL);
    }
    put_event(&role_event, ROLE, 0, "null", NULL);
}

/* ---- who is next ---- */

static void heap_set(size_t at, conn *c) {
    heap.at[at - 1] = c;
    c->heap_at = at;
}

static void heap_sift(size_t at, conn *c) {
    for (; at > 1 && heap.at[at / 2 - 1]->due_ns > c->due_ns; at /= 2) heap_set(at, heap.at[at / 2 - 1]);
    for (size_t child; (child = 2 * at) <= heap.size; at = child) {
        if (child < heap.size && heap.at[child]->due_ns < heap.at[child - 1]->due_ns) child++;
        if (heap.at[child - 1]->due_ns >= c->due_ns) break;
        heap_set(at, heap.at[child - 1]);
    }
    heap_set(at, c);
}

static void heap_remove(conn *c) {
    size_t at = c->heap_at;
    conn *last = heap.at[--heap.size];
    c->heap_at = 0;
    if (last != c) heap_sift(at, last);
}

static void ring_push(conn *c) {
    if (ring.size == ring.room) {
        size_t room = ring.room ? 2 * ring.room : 1024;
        conn **at = malloc(room * sizeof *at);
        if (!at) die("malloc");
        for (size_t i = 0; i < ring.size; i++) at[i] = ring.at[(ring.head + i) & (ring.room - 1)];
        free(ring.at);
        ring.at = at, ring.room = room, ring.head = 0;
    }
    ring.at[(ring.head + ring.size++) & (ring.room - 1)] = c;
    c->ringed = true;
}

static conn *ring_pop(void) {
    conn *c = ring.at[ring.head];
    ring.head = (ring.head + 1) & (ring.room - 1);
    ring.size--;
    c->ringed = false;
    return c;
}

static void schedule(conn *c, int64_t due_ns, int64_t at_ns) {
    c->due_ns = due_ns;
    if (due_ns <= at_ns) {
        ring_push(c);
        return;
    }
    GROW(heap);
    heap_sift(++heap.size, c);
}

/* ---- a connection ---- */

static void watch(conn *c, uint32_t mask) {
    struct epoll_event ask = {.events = mask, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ask)) die("epoll_ctl");
}

static void recycle(conn *c) {
    c->next = spare;
    spare = c;
}

static void drop(conn *c) {
    close(c->fd);
    c->fd = -1;
    free(c->in.at);
    free(c->out.at);
    c->in = c->out = (bytes){0};
    if (c->heap_at) heap_remove(c);
    /* One that stands in the ring is recycled when its turn comes. */
    if (!c->ringed) recycle(c);
}

/* Sends pieces of at most --split bytes; how many bytes the kernel took, or -1 where the connection is gone. */
static ssize_t send_pieces(const conn *c, const char *from, size_t size) {
    size_t done = 0;
    while (done < size) {
        size_t piece = size - done;
        if (knob.split && piece > (size_t)knob.split) piece = (size_t)knob.split;
        ssize_t sent = send(c->fd, from + done, piece, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? (ssize_t)done : -1;
        done += (size_t)sent;
    }
    return (ssize_t)done;
}

/* Sends, and keeps what the kernel does not take; false where the connection is gone and dropped. */
static bool transmit(conn *c, const bytes *what) {
    size_t sent = 0;
    if (!c->out.size) {
        ssize_t taken = send_pieces(c, what->at, what->size);
        if (taken < 0) {
            drop(c);
            return false;
        }
        sent = (size_t)taken;
        if (sent < what->size) watch(c, EPOLLIN | EPOLLOUT);
    }
    if (sent < what->size) put(&c->out, what->at + sent, what->size - sent);
    return true;
}

static void take_requests(conn *c);

/* The answer's last byte is with the kernel. */
static void finish(conn *c) {
    if (knob.log && c->record >= 0) records.at[c->record].end_ns = now_ns();
    c->phase = IDLE;
    c->record = -1;
    if (c->closing) drop(c);
    else take_requests(c);
}

static void flush(conn *c) {
    ssize_t taken = send_pieces(c, c->out.at + c->out_from, c->out.size - c->out_from);
    if (taken < 0) {
        drop(c);
        return;
    }
    c->out_from += (size_t)taken;
    if (c->out_from < c->out.size) return;
    free(c->out.at);
    c->out = (bytes){0};
    c->out_from = 0;
    watch(c, EPOLLIN);
    if (c->phase == END) finish(c);
    else if (c->phase != STALLED && c->phase != IDLE) schedule(c, c->due_ns, now_ns());
}

/* ---- a stream ---- */

static int64_t jitter_ns(void) {
    static uint64_t state = 1;
    if (!knob.jitter_us) return 0;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)(knob.jitter_us * 1000 + 1));
}

static int64_t token_due_ns(const conn *c) {
    return c->base_ns + c->sent_tok * knob.itl_us * 1000 + jitter_ns();
}

static bool fault_due(const conn *c) {
    return c->faulty && !c->faulted && c->sent_tok == knob.fault_after;
}

static enum kind token_kind(const conn *c) {
    if (!c->chat) return COMPLETION;
    if (c->sent_tok < knob.reasoning) return REASONING;
    return knob.tool_calls ? TOOL : CONTENT;
}

/* Adds the stream's next event that carries tokens, and writes it down as sent at `at_ns`. */
static void put_tokens(bytes *to, conn *c, int64_t at_ns) {
    enum kind kind = token_kind(c);
    int64_t tok = c->total_tok - c->sent_tok;
    if (tok > knob.tokens_per_chunk) tok = knob.tokens_per_chunk;
    if (kind == REASONING && tok > knob.reasoning - c->sent_tok) tok = knob.reasoning - c->sent_tok;
    if (c->faulty && !c->faulted && c->sent_tok < knob.fault_after && tok > knob.fault_after - c->sent_tok)
        tok = knob.fault_after - c->sent_tok;
    c->sent_tok += tok;
    if (knob.usage == USAGE_CONTINUOUS) put_event(to, kind, tok, "null", c);
    else put(to, token_events[kind][tok].at, token_events[kind][tok].size);
    count.events++;
    count.tokens += tok;
    if (!knob.log) return;
    GROW(events);
    events.at[events.size++] = (event){c->record, at_ns, tok};
    records.at[c->record].events++;
}

static void mark_head(const conn *c, int64_t at_ns) {
    if (knob.log && !records.at[c->record].head_ns) records.at[c->record].head_ns = at_ns;
}

static void end(conn *c) {
    c->phase = END;
    if (!c->out.size) finish(c);
}

/* The whole answer in one write, when its last event is due. */
static void send_whole(conn *c, int64_t at_ns) {
    static bytes body;
    body.size = scratch.size = 0;
    mark_head(c, at_ns);
    if (c->chat && knob.role_chunk) put(&body, role_event.at, role_event.size);
    const bytes *empty = &empty_events[c->chat ? CONTENT : COMPLETION];
    for (int64_t i = 0; i < knob.empty_chunks; i++) put(&body, empty->at, empty->size);
    while (c->sent_tok < c->total_tok) put_tokens(&body, c, at_ns);
    put_tail(&body, c);
    put_head(&scratch, c, (int64_t)body.size);
    put(&scratch, body.at, body.size);
    if (transmit(c, &scratch)) end(c);
}

/* The head, and the events that carry no token; or an answer that is no stream. */
static void send_head(conn *c, int64_t at_ns) {
    scratch.size = 0;
    if (c->code != 200) {
        mark_head(c, at_ns);
        put_error(&scratch, c, c->code, c->why);
        if (transmit(c, &scratch)) end(c);
        return;
    }
    if (knob.framing == LENGTH) {
        send_whole(c, at_ns);
        return;
    }
    int64_t before = knob.empty_chunks + (c->chat && knob.role_chunk ? 1 : 0);
    if (knob.head_early || before) {
        mark_head(c, at_ns);
        put_head(&scratch, c, 0);
        c->headed = true;
        if (knob.head_early) {
            if (!transmit(c, &scratch)) return;
            scratch.size = 0;
        }
    }
    for (int64_t i = 0; i < before; i++) {
        bool role = i == 0 && c->chat && knob.role_chunk;
        const bytes *what = role ? &role_event : &empty_events[c->chat ? CONTENT : COMPLETION];
        put(&scratch, what->at, what->size);
        if (!transmit(c, &scratch)) return;
        scratch.size = 0;
    }
    c->phase = TOKENS;
    c->due_ns = token_due_ns(c);
    if (!c->out.size) schedule(c, c->due_ns, at_ns);
}

static void send_endless(conn *c, int64_t at_ns) {
    json.size = scratch.size = 0;
    reserve(&json, ENDLESS_BYTES);
    memset(json.at, 'x', ENDLESS_BYTES);
    json.size = ENDLESS_BYTES;
    put_chunk(&scratch, &json);
    if (transmit(c, &scratch) && !c->out.size) schedule(c, at_ns, at_ns);
}

/* What comes in place of the event after --fault-after tokens. */
static void fail(conn *c, int64_t at_ns) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    scratch.size = 0;
    c->faulted = true;
    if (!c->headed) put_head(&scratch, c, 0);
    c->headed = true;
    mark_head(c, at_ns);
    switch (knob.fault) {
    case STALL:
        c->phase = STALLED;
        if (scratch.size) transmit(c, &scratch);
        return;
    case PAUSE:
        c->base_ns += knob.stall_us * 1000;
        c->due_ns = token_due_ns(c);
        break;
    case RESET:
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        drop(c);
        return;
    case CLOSE:
        drop(c);
        return;
    case GARBAGE:
        put_line(&scratch, "data: {\"id\":\"cmpl-7f3c0d\",\"choices\":[{\"text\":\"\\ud8");
        break;
    case ERROR:
        put_line(&scratch, "data: {\"error\":{\"message\":\"truth: asked to fail\",\"type\":\"InternalServerError\","
                           "\"param\":null,\"code\":500}}");
        put_done(&scratch);
        if (transmit(c, &scratch)) end(c);
        return;
    default:
        c->phase = ENDLESS_LINE;
    }
    if (scratch.size && !transmit(c, &scratch)) return;
    if (!c->out.size) schedule(c, c->due_ns, at_ns);
}

/* One turn: the stream's next write. The stamp is taken before send(): a client on another core may hold the bytes
 * before send() returns, and no token may arrive before it was sent. */
static void step(conn *c) {
    int64_t at_ns = now_ns();
    if (c->phase == HEAD) {
        send_head(c, at_ns);
        return;
    }
    if (c->phase == ENDLESS_LINE) {
        send_endless(c, at_ns);
        return;
    }
    if (fault_due(c)) {
        fail(c, at_ns);
        return;
    }
    scratch.size = 0;
    if (!c->headed) put_head(&scratch, c, 0);
    c->headed = true;
    mark_head(c, at_ns);
    if (c->sent_tok >= c->total_tok) {
        put_tail(&scratch, c);
        if (transmit(c, &scratch)) end(c);
        return;
    }
    for (int64_t i = 0; i < knob.events_per_write && c->sent_tok < c->total_tok && !fault_due(c); i++)
        put_tokens(&scratch, c, at_ns);
    c->due_ns = c->sent_tok < c->total_tok ? token_due_ns(c) : at_ns;
    if (transmit(c, &scratch) && !c->out.size) schedule(c, c->due_ns, at_ns);
}

/* ---- a request: a light scan of JSON, in one pass ---- */

static const char *skip_space(const char *p, const char *stop) {
    while (p < stop && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* From an opening quote to behind the closing one; `stop` where there is none. */
static const char *skip_string(const char *p, const char *stop) {
    for (p++; p < stop && *p != '"'; p++)
        if (*p == '\\') p++;
    return p < stop ? p + 1 : stop;
}

static const char *skip_value(const char *p, const char *stop) {
    int depth = 0;
    while (p < stop) {
        if (*p == '"') {
            p = skip_string(p, stop);
            if (!depth) return p;
            continue;
        }
        if (*p == '[' || *p == '{') depth++;
        if (!depth && (*p == ',' || *p == '}' || *p == ']')) return p;
        if ((*p == ']' || *p == '}') && --depth == 0) return p + 1;
        p++;
    }
    return stop;
}

/* Words of a JSON string, from its opening quote to behind the closing one. */
static int64_t words(const char *p, const char *stop) {
    int64_t found = 0;
    bool inside = false;
    for (p++; p < stop - 1; p++) {
        bool escape = *p == '\\';
        if (escape) p++;
        bool space = escape ? (*p == 'n' || *p == 't' || *p == 'r') : *p == ' ';
        found += !space && !inside;
        inside = !space;
    }
    return found;
}

/* Words of the strings in a value, and, for `ids`, its numbers; in `messages` only those of contents and texts. */
static int64_t prompt_tokens(const char *p, const char *stop, bool messages) {
    int64_t found = 0;
    bool counts = !messages, number = false;
    while (p < stop) {
        bool digit = *p >= '0' && *p <= '9';
        found += digit && !number && !messages;
        number = digit;
        if (*p != '"') {
            p++;
            continue;
        }
        const char *from = p;
        p = skip_string(p, stop);
        const char *next = skip_space(p, stop);
        if (messages && next < stop && *next == ':') {
            size_t size = (size_t)(p - from);
            counts = (size == 9 && !memcmp(from, "\"content\"", 9)) || (size == 6 && !memcmp(from, "\"text\"", 6));
        } else if (counts) {
            found += words(from, p);
        }
    }
    return found;
}

static bool names(const char *from, const char *to, const char *name) {
    size_t size = strlen(name);
    return (size_t)(to - from) == size + 2 && !memcmp(from + 1, name, size);
}

/* Reads what the answer depends on; false where the body is no JSON object. */
static bool scan(conn *c, const char *p, const char *stop, bool *other_model) {
    p = skip_space(p, stop);
    if (p == stop || *p++ != '{') return false;
    for (p = skip_space(p, stop); p < stop && *p == '"'; p = skip_space(p, stop)) {
        const char *key = p, *key_stop = skip_string(p, stop);
        p = skip_space(key_stop, stop);
        if (p == stop || *p != ':') return false;
        const char *value = skip_space(p + 1, stop);
        p = skip_value(value, stop);
        if (names(key, key_stop, "max_tokens") || names(key, key_stop, "max_completion_tokens")) {
            if (*value != 'n') c->total_tok = strtoll(value, NULL, 10);
        } else if (names(key, key_stop, "prompt")) c->prompt_tok += prompt_tokens(value, p, false);
        else if (names(key, key_stop, "messages")) c->prompt_tok += prompt_tokens(value, p, true);
        else if (names(key, key_stop, "model")) *other_model = knob.model && !names(value, p, knob.model);
        else if (names(key, key_stop, "stream_options")) {
            const char *asked = memmem(value, (size_t)(p - value), "\"include_usage\"", 15);
            const char *colon = asked ? memchr(asked, ':', (size_t)(p - asked)) : NULL;
            c->want_usage = colon && *skip_space(colon + 1, p) == 't';
        }
        p = skip_space(p, stop);
        if (p < stop && *p == ',') p++;
    }
    return p < stop && *p == '}';
}

static void begin(conn *c, const char *body, size_t size, bool chat) {
    int64_t at_ns = now_ns();
    bool other_model = false;
    c->chat = chat;
    c->want_usage = c->faulted = c->headed = false;
    c->prompt_tok = c->sent_tok = 0;
    c->total_tok = 16;
    c->code = 200;
    c->phase = HEAD;
    count.requests++;
    c->faulty = knob.fault != NONE && count.requests % knob.fault_every == 0 && knob.framing != LENGTH;
    if (!scan(c, body, body + size, &other_model)) {
        c->code = 400, c->why = "the body is no JSON object";
        c->closing = true;
    } else if (other_model) {
        c->code = 404, c->why = "The model does not exist.";
    } else if (knob.fault == STATUS && count.requests % knob.fault_every == 0) {
        c->code = (int)knob.status, c->why = "truth: asked to fail";
    }
    if (knob.output_tok >= 0) c->total_tok = knob.output_tok;
    c->prompt_tok = knob.prompt_fixed >= 0 ? knob.prompt_fixed : c->prompt_tok + knob.prompt_extra;
    if (c->code == 200) {
        count.prompt_tok += c->prompt_tok;
        count.hit_tok += knob.cached > 0 ? knob.cached : 0;
    }
    if (knob.log) {
        GROW(records);
        c->record = (int64_t)records.size;
        records.at[records.size++] =
            (record){at_ns, c->code, c->prompt_tok, c->code == 200 ? c->total_tok : 0, c->number, 0, 0, 0};
    }
    c->base_ns = at_ns + knob.ttft_us * 1000;
    int64_t due_ns = at_ns + knob.slow_start_us * 1000;
    if (c->code == 200 && knob.framing == LENGTH) {
        int64_t before = c->total_tok ? (c->total_tok - 1) / knob.tokens_per_chunk * knob.tokens_per_chunk : 0;
        int64_t whole_ns = c->base_ns + before * knob.itl_us * 1000;
        if (whole_ns > due_ns) due_ns = whole_ns;
    }
    schedule(c, due_ns, at_ns);
}

static void put_metrics(bytes *to) {
    const struct { const char *name; int64_t value; } COUNTERS[] = {
        {"prompt_tokens", count.prompt_tok}, {"generation_tokens", count.tokens},
        {"prefix_cache_queries", count.prompt_tok}, {"prefix_cache_hits", count.hit_tok}};
    for (size_t i = 0; i < sizeof COUNTERS / sizeof *COUNTERS; i++)
        putf(to, "# TYPE vllm:%s_total counter\nvllm:%s_total{engine=\"0\",model_name=\"%s\"} %ld.0\n",
             COUNTERS[i].name, COUNTERS[i].name, model_name, (long)COUNTERS[i].value);
}

/* The requests that are no completion. */
static void answer_other(conn *c, const char *target) {
    static bytes body;
    body.size = scratch.size = 0;
    if (!strcmp(target, "GET /health")) {
        put_answer(&scratch, c, 200, "text/plain", &body);
    } else if (!strcmp(target, "GET /v1/models")) {
        putf(&body, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1760000000,"
                    "\"owned_by\":\"truth\"}]}", model_name);
        put_answer(&scratch, c, 200, "application/json", &body);
    } else if (!strcmp(target, "GET /metrics") && knob.metrics) {
        put_metrics(&body);
        put_answer(&scratch, c, 200, "text/plain; version=0.0.4", &body);
    } else {
        put_error(&scratch, c, 404, "no such path");
    }
    if (transmit(c, &scratch)) end(c);
}

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), tail = strlen(end);
    return size >= tail && !strcmp(text + size - tail, end);
}

/* Begins the next request if all of it is here. */
static void take_requests(conn *c) {
    if (!c->in.size) return;
    /* A number that the body breaks off in must end somewhere. */
    reserve(&c->in, 1);
    c->in.at[c->in.size] = 0;
    char *stop = memmem(c->in.at, c->in.size, "\r\n\r\n", 4);
    if (!stop) return;
    size_t head = (size_t)(stop - c->in.at) + 4;
    *stop = 0;
    const char *field = strcasestr(c->in.at, "\r\ncontent-length:");
    const char *connection = strcasestr(c->in.at, "\r\nconnection:");
    size_t length = field ? strtoull(field + 17, NULL, 10) : 0;
    *stop = '\r';
    if (c->in.size < head + length) {
        reserve(&c->in, head + length + 1 - c->in.size);
        return;
    }
    c->closing = !knob.keep_alive || knob.framing == UNTIL_CLOSE ||
                 (connection && !strncasecmp(skip_space(connection + 13, stop), "close", 5));
    char target[256];
    size_t line = strcspn(c->in.at, "\r?");
    snprintf(target, sizeof target, "%.*s", (int)(line < 255 ? line : 255), c->in.at);
    char *version = strstr(target, " HTTP/");
    if (version) *version = 0;
    bool post = !strncmp(target, "POST ", 5), chat = ends_with(target, "/chat/completions");
    bytes asked = c->in;
    c->in = (bytes){0};
    if (asked.size > head + length) put(&c->in, asked.at + head + length, asked.size - head - length);
    if (post && (chat || ends_with(target, "/completions"))) begin(c, asked.at + head, length, chat);
    else answer_other(c, target);
    free(asked.at);
}

static void receive(conn *c) {
    reserve(&c->in, READ_MIN);
    ssize_t got = recv(c->fd, c->in.at + c->in.size, c->in.room - c->in.size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(c);
        return;
    }
    c->in.size += (size_t)got;
    if (c->phase == IDLE) take_requests(c);
}

static void accept_all(void) {
    int fd, one = 1;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        conn *c = spare;
        if (c) spare = c->next;
        else if (!(c = malloc(sizeof *c))) die("malloc");
        *c = (conn){.fd = fd, .record = -1, .number = count.connections++};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event ask = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ask)) die("epoll_ctl");
    }
}

/* ---- the loop ---- */

/* A core that slept wakes up some 100 us late (more in a virtual machine): the timer is set --spin-us early, and the
 * rest is polled. */
static int wait_ms(void) {
    if (ring.size) return 0;
    if (!heap.size) return -1;
    int64_t wake_ns = heap.at[0]->due_ns - knob.spin_us * 1000;
    if (wake_ns <= now_ns()) return 0;
    if (wake_ns != armed_ns) {
        struct itimerspec when = {.it_value = {wake_ns / 1000000000, wake_ns % 1000000000}};
        if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL)) die("timerfd_settime");
        armed_ns = wake_ns;
    }
    return -1;
}

static void turn_ring(void) {
    if (heap.size) {
        for (int64_t at_ns = now_ns(); heap.size && heap.at[0]->due_ns <= at_ns;) {
            conn *c = heap.at[0];
            heap_remove(c);
            ring_push(c);
        }
    }
    for (int turn = 0; turn < TURNS && ring.size; turn++) {
        conn *c = ring_pop();
        if (c->fd < 0) recycle(c);
        else step(c);
    }
}

/* Handles one report; false where it is time to end. */
static bool handle(const struct epoll_event *report) {
    const int *fd = report->data.ptr;
    uint64_t fired;
    char typed[256];
    if (fd == &signal_fd) return false;
    if (fd == &timer_fd) {
        if (read(timer_fd, &fired, sizeof fired) > 0) armed_ns = 0;
    } else if (fd == &listen_fd) {
        accept_all();
    } else if (!fd) {
        return read(STDIN_FILENO, typed, sizeof typed) > 0;
    } else {
        conn *c = report->data.ptr;
        if (report->events & EPOLLOUT) flush(c);
        else receive(c);
    }
    return true;
}

static void loop(void) {
    struct epoll_event reports[EVENTS];
    for (;;) {
        turn_ring();
        int found = epoll_wait(epoll_fd, reports, EVENTS, wait_ms());
        if (found < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < found; i++)
            if (!handle(&reports[i])) return;
    }
}

static void add(int fd, void *mark) {
    struct epoll_event ask = {.events = EPOLLIN, .data.ptr = mark};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ask)) die("epoll_ctl");
}

static void open_all(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    where.sin_port = htons((uint16_t)knob.port);
    socklen_t size = sizeof where;
    int one = 1;
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listen_fd, (struct sockaddr *)&where, size) || listen(listen_fd, 4096)) die("listen");
    getsockname(listen_fd, (struct sockaddr *)&where, &size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal_fd = signalfd(-1, &ends, SFD_CLOEXEC);
    add(listen_fd, &listen_fd);
    add(timer_fd, &timer_fd);
    add(signal_fd, &signal_fd);
    if (knob.stdin_) add(STDIN_FILENO, NULL);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
}

/* int64: the number of requests; a row of `record` for each; the stamps of all events, then their tokens, both in
 * order of the requests. */
static void write_log(void) {
    FILE *to = fopen(knob.log, "wb");
    if (!to) die(knob.log);
    int64_t size = (int64_t)records.size, start = 0;
    int64_t *column = malloc((2 * events.size + 1) * sizeof *column);
    int64_t *place = malloc((records.size + 1) * sizeof *place);
    if (!column || !place) die("malloc");
    for (size_t i = 0; i < records.size; start += records.at[i++].events) place[i] = start;
    for (size_t i = 0; i < events.size; i++) {
        int64_t at = place[events.at[i].record]++;
        column[at] = events.at[i].send_ns;
        column[(int64_t)events.size + at] = events.at[i].tok;
    }
    fwrite(&size, sizeof size, 1, to);
    if (records.size) fwrite(records.at, sizeof *records.at, records.size, to);
    fwrite(column, sizeof *column, 2 * events.size, to);
    if (fclose(to)) die(knob.log);
    free(column);
    free(place);
}

static int64_t choice(const char *choices, const char *word) {
    int64_t place = 0;
    for (const char *p = choices; *p; place++) {
        size_t size = strcspn(p, "|");
        if (strlen(word) == size && !memcmp(p, word, size)) return place;
        p += size + (p[size] == '|');
    }
    return -1;
}

static void read_knobs(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        bool taken = false;
        for (size_t k = 0; k < sizeof OPTIONS / sizeof *OPTIONS && i + 1 < argc; k++) {
            if (strncmp(argv[i], "--", 2) || strcmp(argv[i] + 2, OPTIONS[k].name)) continue;
            char *rest = "";
            taken = true;
            if (OPTIONS[k].text) *OPTIONS[k].text = argv[i + 1];
            else if (OPTIONS[k].choices) taken = (*OPTIONS[k].number = choice(OPTIONS[k].choices, argv[i + 1])) >= 0;
            else *OPTIONS[k].number = strtoll(argv[i + 1], &rest, 10);
            taken = taken && !*rest;
        }
        if (!taken) {
            fprintf(stderr, "truth: %s %s: no such knob or value\n", argv[i], i + 1 < argc ? argv[i + 1] : "");
            exit(2);
        }
    }
    if (knob.tokens_per_chunk < 1 || knob.events_per_write < 1 || knob.fault_every < 1) {
        fprintf(stderr, "truth: tokens-per-chunk, events-per-write and fault-every are at least 1\n");
        exit(2);
    }
    if (knob.model) model_name = knob.model;
}

int main(int argc, char **argv) {
    read_knobs(argc, argv);
    build_events();
    open_all();
    loop();
    if (knob.log) write_log();
    printf("{\"requests\": %ld, \"events\": %ld, \"tokens\": %ld, \"connections\": %ld}\n", (long)count.requests,
           (long)count.events, (long)count.tokens, (long)count.connections);
    return 0;
}
