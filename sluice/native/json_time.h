/* Dates and times as ISO 8601 text or epoch numbers, in the forms and bounds of `sluice.json.times`. */
#ifndef SLUICE_JSON_TIME_H
#define SLUICE_JSON_TIME_H

#include "json_number.h"

#define FIRST_SECOND (-62135596800ll) /* 0001-01-01 */
#define LAST_SECOND 253402300799ll    /* 9999-12-31T23:59:59 */

static const int64_t TENS[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

/* Two digits, at most `highest`; -1 where they are none. */
static inline int pair(const byte *p, int highest)
{
    if (!is_digit(p[0]) || !is_digit(p[1]))
        return -1;
    int value = (p[0] - '0') * 10 + (p[1] - '0');
    return value <= highest ? value : -1;
}

/* `2026-01-31`, which must have ten bytes, as days since 1970. */
static inline int days_of(const byte *p, int64_t *days)
{
    static const byte lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int century = pair(p, 99), rest = pair(p + 2, 99), month = pair(p + 5, 12), day = pair(p + 8, 31);
    if (century < 0 || rest < 0 || month < 1 || day < 1 || p[4] != '-' || p[7] != '-')
        return 0;
    int year = century * 100 + rest;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 1 || day > lengths[month - 1] + (month == 2 && leap))
        return 0;
    int march = (month + 9) % 12; /* years that begin in March put the odd day at their end */
    int y = year - (month < 3);
    *days = 365ll * y + y / 4 - y / 100 + y / 400 + (march * 153 + 2) / 5 + day - 1 - 719468;
    return 1;
}

typedef struct {
    int64_t seconds;
    const byte *fraction, *fraction_end;
} moment;

/* `09:30`, `09:30:00`, `09:30:00.25`; gives the place after it, NULL where it is none. */
static inline const byte *after_clock(const byte *p, const byte *end, moment *out)
{
    int hour, minute, second;
    out->fraction = out->fraction_end = p;
    if (end - p < 5 || (hour = pair(p, 23)) < 0 || p[2] != ':' || (minute = pair(p + 3, 59)) < 0)
        return NULL;
    out->seconds = hour * 3600 + minute * 60;
    p += 5;
    if (p == end || *p != ':')
        return p;
    if (end - p < 3 || (second = pair(p + 1, 59)) < 0)
        return NULL;
    out->seconds += second;
    p += 3;
    if (p == end || *p != '.')
        return p;
    out->fraction = p + 1;
    return out->fraction_end = after_digits(p + 1, end);
}

/* Seconds and fraction in units of 10^-places; at most microseconds fine, as Delta is. */
static inline int scaled(const moment *m, int places, int64_t *out)
{
    int kept = 0, most = places < 6 ? places : 6;
    int64_t part = 0;
    for (const byte *p = m->fraction; p < m->fraction_end; p++) {
        if (kept < most) {
            part = part * 10 + (*p - '0');
            kept++;
        } else if (*p != '0') {
            return 0;
        }
    }
    if (__builtin_mul_overflow(m->seconds, TENS[places], out))
        return 0;
    return !__builtin_add_overflow(*out, part * TENS[places - kept], out) && *out != INT64_MIN;
}

static inline int clock_of(const byte *p, const byte *end, int64_t *out)
{
    moment m;
    return after_clock(p, end, &m) == end && scaled(&m, 9, out);
}

/* A stretch of a zone's clock, in seconds of that clock, and how far it is ahead of UTC there. */
typedef struct {
    int64_t first, end, offset;
} stretch;

typedef struct {
    const stretch *stretches; /* in order; what lies between is for the strict decoder */
    int64_t size;
} zone;

/* From a zone's clock to UTC. */
static inline int to_utc(int64_t *seconds, zone z)
{
    int64_t low = 0, high = z.size;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (z.stretches[middle].end <= *seconds)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == z.size || z.stretches[low].first > *seconds)
        return 0;
    *seconds -= z.stretches[low].offset;
    return 1;
}

/* A date-time in units of 10^-places since 1970: by its offset or in the zone, or, for the naive, as it stands. */
static inline int datetime_of(const byte *p, const byte *end, int places, int naive, zone z, int64_t *out)
{
    moment m;
    int64_t days;
    if (end - p < 16 || (p[10] != 'T' && p[10] != ' ') || !days_of(p, &days))
        return 0;
    p = after_clock(p + 11, end, &m);
    if (!p)
        return 0;
    m.seconds += days * 86400;
    if (naive)
        return p == end && scaled(&m, places, out);
    if (p == end) {
        if (!to_utc(&m.seconds, z))
            return 0;
    } else if (*p != 'Z') { /* +05, +0530, +05:30 */
        int sign = *p == '+' ? 1 : *p == '-' ? -1 : 0;
        int64_t size = end - p;
        int minutes_at = size == 5 ? 3 : size == 6 && p[3] == ':' ? 4 : 0;
        if (!sign || (size != 3 && !minutes_at))
            return 0;
        int hours = pair(p + 1, 23), minutes = minutes_at ? pair(p + minutes_at, 59) : 0;
        if (hours < 0 || minutes < 0)
            return 0;
        m.seconds -= sign * (hours * 3600 + minutes * 60);
    } else if (p + 1 != end) {
        return 0;
    }
    return m.seconds >= FIRST_SECOND && m.seconds <= LAST_SECOND && scaled(&m, places, out);
}

/* A number of units of 10^-given since 1970 in units of 10^-places. */
static inline int epoch_of(const number *n, int given, int places, int64_t *out)
{
    wide value;
    if (!whole_of(n, places - given, INT64_MAX, &value) || (places == 9 && value % 1000))
        return 0;
    *out = n->negative ? -(int64_t)value : (int64_t)value;
    int64_t unit = TENS[places], second = *out / unit - (*out % unit < 0);
    return second >= FIRST_SECOND && second <= LAST_SECOND;
}

/* Digits, at most `most`, and the letter after them: adds so many times `seconds`; 0: there is no such part. */
static inline int part_of(const byte **at, const byte *end, char letter, int most, int64_t seconds, moment *m)
{
    const byte *p = *at;
    int64_t value = 0;
    for (; p < end && is_digit(*p) && p - *at < most; p++)
        value = value * 10 + (*p - '0');
    if (p == *at || p >= end)
        return 0;
    const byte *fraction = p + 1, *fraction_end = p;
    if (letter == 'S' && *p == '.' && (p = fraction_end = after_digits(fraction, end)) == NULL)
        return 0;
    if (p >= end || *p != letter)
        return 0;
    if (fraction_end > fraction) {
        m->fraction = fraction;
        m->fraction_end = fraction_end;
    }
    m->seconds += value * seconds;
    *at = p + 1;
    return 1;
}

/* `P1DT2H30M`, `-PT0.5S`, `P2W` in units of 10^-places. */
static inline int duration_of(const byte *p, const byte *end, int places, int64_t *out)
{
    moment m = {0, p, p};
    int negative = p < end && *p == '-', parts;
    p += p < end && (*p == '-' || *p == '+');
    if (p >= end || *p++ != 'P')
        return 0;
    parts = part_of(&p, end, 'W', 9, 604800, &m);
    parts += part_of(&p, end, 'D', 9, 86400, &m);
    if (p < end && *p == 'T') {
        p++;
        parts = part_of(&p, end, 'H', 12, 3600, &m);
        parts += part_of(&p, end, 'M', 12, 60, &m);
        parts += part_of(&p, end, 'S', 12, 1, &m);
    }
    if (!parts || p != end || !scaled(&m, places, out))
        return 0;
    *out = negative ? -*out : *out;
    return 1;
}

#endif
