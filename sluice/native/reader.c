/* Kafka's messages to Arrow columns, without a Python object for each.
 *
 * Decides how a message becomes a row of `tables.RECORD`, as `resources/kafka_records.py` does in Python, and how
 * long one is waited for. It knows no headers of librdkafka: the caller gives the functions, and the layout of a
 * message, fixed since version 0.8, stands below. It refuses nothing but what memory cannot hold: then functions
 * give -1, and the chunk is to be discarded.
 *
 * A `struct chunk` belongs to one thread at a time. What `hand_over` gives is Arrow's, freed by its `release`.
 */

#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "reader_columns.h"

struct message { /* rd_kafka_message_t */
    int err;
    void *topic;
    int32_t partition;
    void *value; /* where err is set: its text */
    size_t value_size;
    void *key;
    size_t key_size;
    int64_t offset;
    void *own;
};

struct kafka { /* librdkafka's functions */
    int64_t (*consume)(void *queue, int ms, struct message **into, size_t most);
    void (*destroy)(struct message *);
    int64_t (*timestamp)(const struct message *, int *kind);
    int (*headers)(const struct message *, void **headers);
    int (*header)(const void *headers, size_t at, const char **name, const void **value, size_t *size);
    const char *(*text)(const struct message *);
};

struct event {
    int32_t code, partition;
    int64_t offset;
    char *text;
};

struct reach { /* how far a partition was read */
    int64_t partition, next;
};

struct chunk { /* the caller knows the first eight, and gives the first */
    const char *topic;
    int64_t rows, bytes, events, reaches, odd_names; /* odd: not all names of headers are ASCII */
    struct event *event;
    struct reach *reach;
    int64_t room, event_room, reach_room, last_reach;
    int64_t mean, unknown; /* bytes of a record; rows without a time */
    int kind_now;
    int32_t *partition;
    int64_t *offset, *ms, *us, *header_ends;
    uint8_t *known;
    struct views name, kind, key, value, header_name, header_value;
};

const int64_t chunk_bytes = sizeof(struct chunk); /* zeroed memory of this size is an empty one */
enum { BURST = 512, COLUMNS = 9 };
static const int64_t FIRST_MS = -62135596800000, LAST_MS = 253402300799999; /* years 1 to 9999 */
static const char *const KINDS[] = {"NotAvailable", "CreateTime", "LogAppendTime"};

static int note(struct chunk *c, const struct kafka *k, const struct message *m) {
    if (c->events == c->event_room) {
        int failed = 0;
        GROW(c->event, c->events + 64, &failed);
        if (failed) return -1;
        c->event_room = c->events + 64;
    }
    const char *text = k->text(m);
    char *own = strdup(text ? text : "");
    if (!own) return -1;
    c->event[c->events++] = (struct event){m->err, m->partition, m->offset, own};
    return 0;
}

static int headers_of(struct chunk *c, const struct kafka *k, const struct message *m) {
    void *headers = NULL;
    const char *name;
    const void *value;
    size_t size;
    if (k->headers(m, &headers)) return 0; /* it has none */
    for (size_t i = 0; !k->header(headers, i, &name, &value, &size); i++) {
        size_t length = strlen(name);
        for (size_t j = 0; j < length; j++) c->odd_names |= name[j] & 0x80;
        if (push(&c->header_name, name, length) || push(&c->header_value, value, size)) return -1;
        c->bytes += (int64_t)(length + (value ? size : 0));
    }
    return 0;
}

static int reach(struct chunk *c, int64_t partition, int64_t next) {
    int64_t at = c->last_reach; /* most often the same as before */
    if (at >= c->reaches || c->reach[at].partition != partition)
        for (at = 0; at < c->reaches && c->reach[at].partition != partition;) at++;
    if (at == c->reaches) {
        if (at == c->reach_room) {
            int failed = 0;
            GROW(c->reach, at + 64, &failed);
            if (failed) return -1;
            c->reach_room = at + 64;
        }
        c->reaches++;
    }
    c->reach[at] = (struct reach){partition, next};
    c->last_reach = at;
    return 0;
}

static int grow(struct chunk *c) {
    int64_t room = c->room ? c->room * 2 : FIRST;
    int failed = 0;
    GROW(c->partition, room, &failed);
    GROW(c->offset, room, &failed);
    GROW(c->ms, room, &failed);
    GROW(c->us, room, &failed);
    GROW(c->known, room / 8, &failed);
    GROW(c->header_ends, room + 1, &failed);
    if (!failed) c->room = room;
    return failed;
}

/* Keep one message: as a row, or as an event. */
int keep(struct chunk *c, const struct kafka *k, const struct message *m) {
    if (m->err) return note(c, k, m);
    int64_t row = c->rows;
    int kind = 0;
    int64_t ms = k->timestamp(m, &kind);
    int known = ms != -1 && FIRST_MS <= ms && ms <= LAST_MS;
    if (kind < 0 || kind > 2) kind = 0;
    if ((row == c->room && grow(c)) || reach(c, m->partition, m->offset + 1)) return -1;
    const char *text = KINDS[kind];
    if ((row ? again(&c->name) : push(&c->name, c->topic, strlen(c->topic))) ||
        (row && kind == c->kind_now ? again(&c->kind) : push(&c->kind, text, strlen(text))))
        return -1;
    if (push(&c->key, m->key, m->key_size) || push(&c->value, m->value, m->value_size) || headers_of(c, k, m))
        return -1;
    c->kind_now = kind;
    c->partition[row] = m->partition;
    c->offset[row] = m->offset;
    c->ms[row] = ms;
    c->us[row] = known ? ms * 1000 : 0;
    mark(c->known, row, known);
    c->unknown += !known;
    if (!row) c->header_ends[0] = 0;
    c->header_ends[row + 1] = c->header_name.rows;
    c->bytes += (int64_t)((m->key ? m->key_size : 0) + (m->value ? m->value_size : 0));
    c->rows++;
    return 0;
}

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Take what comes within `ms`: at most `rows` messages and about `bytes`, by what records weighed before. All
 * that stands ready is taken without waiting; only then one is waited for. */
int take(struct chunk *c, const struct kafka *k, void *queue, int64_t rows, int64_t bytes, int64_t ms) {
    struct message *burst[BURST];
    int64_t until = now_ms() + ms, wait = 0;
    int failed = 0;
    while (!failed && c->rows + c->events < rows && c->bytes < bytes) {
        int64_t want = rows - c->rows - c->events, fits = c->mean ? (bytes - c->bytes) / c->mean + 1 : 16;
        if (want > fits) want = fits;
        if (want > BURST) want = BURST;
        if (wait) want = 1;
        int64_t got = k->consume(queue, (int)wait, burst, (size_t)want);
        for (int64_t i = 0; i < got; i++) {
            if (!failed) failed = keep(c, k, burst[i]);
            k->destroy(burst[i]);
        }
        if (c->rows) c->mean = c->bytes / c->rows + 1;
        wait = got == want ? 0 : until - now_ms();
        if (wait < 0 || (got != want && !wait)) break;
    }
    return failed;
}

/* Forget the events, and how far partitions were read. */
void forget(struct chunk *c) {
    for (int64_t i = 0; i < c->events; i++) free(c->event[i].text);
    c->events = c->reaches = 0;
}

/* Free all that is held and was not handed over. */
void discard(struct chunk *c) {
    forget(c);
    free(c->event), free(c->reach), free(c->partition), free(c->offset);
    free(c->ms), free(c->us), free(c->known), free(c->header_ends);
    drop(&c->name), drop(&c->kind), drop(&c->key), drop(&c->value);
    drop(&c->header_name), drop(&c->header_value);
    *c = (struct chunk){.topic = c->topic, .mean = c->mean};
}

/* Give the rows to Arrow as arrays of RECORD's columns, in their order, and begin anew: text as string views,
 * bytes as binary views, times in microseconds, headers as a large list of pairs. On -1 all is freed. */
int hand_over(struct chunk *c, struct array out[COLUMNS]) {
    memset(out, 0, COLUMNS * sizeof *out);
    int64_t rows = c->rows, pairs = c->header_name.rows;
    int failed = array(&out[1], rows, 0, 2, 0) || array(&out[2], rows, 0, 2, 0) ||
                 array(&out[3], rows, 0, 2, 0) || array(&out[4], rows, c->unknown, 2, 0) || array(&out[8], rows, 0, 2, 1) ||
                 array(out[8].children[0], pairs, 0, 1, 2) || viewed(&out[0], &c->name) ||
                 viewed(&out[5], &c->kind) || viewed(&out[6], &c->key) || viewed(&out[7], &c->value) ||
                 viewed(out[8].children[0]->children[0], &c->header_name) ||
                 viewed(out[8].children[0]->children[1], &c->header_value);
    if (failed) {
        for (int i = 0; i < COLUMNS; i++)
            if (out[i].release) out[i].release(&out[i]);
    } else {
        GIVE(&out[1], 1, c->partition);
        GIVE(&out[2], 1, c->offset);
        GIVE(&out[3], 1, c->ms);
        GIVE(&out[4], 0, c->known);
        GIVE(&out[4], 1, c->us);
        GIVE(&out[8], 1, c->header_ends);
    }
    discard(c);
    return failed ? -1 : 0;
}
