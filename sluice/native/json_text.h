/* JSON as bytes: blanks, strings, literals, and values that are only looked over.
 *
 * Decides what is JSON at all, exactly as `sluice.json.strict` does: RFC 8259 in UTF-8, at most MAX_DEPTH levels
 * deep. Each function takes a place and the end, reads nothing beyond the end, and gives the place after what it
 * took, or NULL where that is no JSON.
 */
#ifndef SLUICE_JSON_TEXT_H
#define SLUICE_JSON_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for machines whose words begin with the lowest byte"
#endif

#define MAX_DEPTH 512
#define EACH_BYTE(b) (0x0101010101010101ull * (b))

typedef uint8_t byte;

static inline int is_digit(byte c) { return (byte)(c - '0') < 10; }

static inline const byte *after_blanks(const byte *p, const byte *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* One character of two to four bytes; no surrogates, nothing longer than needed. */
static inline const byte *after_character(const byte *p, const byte *end)
{
    size_t left = (size_t)(end - p);
    byte first = p[0], low = 0x80, high = 0xBF;
    size_t size = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (!size || left < size)
        return NULL;
    if (first == 0xE0)
        low = 0xA0;
    else if (first == 0xED)
        high = 0x9F;
    else if (first == 0xF0)
        low = 0x90;
    else if (first == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return NULL;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xC0) != 0x80)
            return NULL;
    return p + size;
}

static inline int hexadecimal(byte c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four hexadecimal digits of an escape as a number; -1 where they are none. */
static inline int unit_at(const byte *p, const byte *end)
{
    int value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hexadecimal(p[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* From behind the opening quote to the closing one; says whether there are escapes. */
static inline const byte *closing_quote(const byte *p, const byte *end, int *escaped)
{
    *escaped = 0;
    for (;;) {
        while (end - p >= 8) { /* eight bytes at once; the lowest mark is exact, those above it may not be */
            uint64_t w, odd;
            memcpy(&w, p, 8);
            uint64_t quote = w ^ EACH_BYTE('"'), slash = w ^ EACH_BYTE('\\');
            odd = ((quote - EACH_BYTE(1)) & ~quote) | ((slash - EACH_BYTE(1)) & ~slash) | (w - EACH_BYTE(0x20)) | w;
            odd &= EACH_BYTE(0x80);
            if (odd) {
                p += __builtin_ctzll(odd) >> 3;
                break;
            }
            p += 8;
        }
        if (p >= end)
            return NULL;
        if (*p == '"')
            return p;
        if (*p == '\\') {
            *escaped = 1;
            if (end - p < 2)
                return NULL;
            if (p[1] == 'u') {
                if (unit_at(p + 2, end) < 0)
                    return NULL;
                p += 6;
            } else if (memchr("\"\\/bfnrt", p[1], 8)) {
                p += 2;
            } else {
                return NULL;
            }
        } else if (*p < 0x20) {
            return NULL;
        } else if (*p < 0x80) {
            p++;
        } else if (!(p = after_character(p, end))) {
            return NULL;
        }
    }
}

static inline const byte *after_word(const byte *p, const byte *end, const char *word, size_t size)
{
    return (size_t)(end - p) >= size && !memcmp(p, word, size) ? p + size : NULL;
}

static inline const byte *after_digits(const byte *p, const byte *end)
{
    const byte *first = p;
    while (p < end && is_digit(*p))
        p++;
    return p == first ? NULL : p;
}

static inline const byte *after_number(const byte *p, const byte *end)
{
    p += *p == '-';
    if (p >= end)
        return NULL;
    p = *p == '0' ? p + 1 : after_digits(p, end);
    if (p && p < end && *p == '.')
        p = after_digits(p + 1, end);
    if (p && p < end && (*p | 0x20) == 'e') {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = after_digits(p, end);
    }
    return p;
}

/* A text, a number or a word. */
static inline const byte *after_scalar(const byte *p, const byte *end)
{
    int escaped;
    if (p >= end)
        return NULL;
    switch (*p) {
    case '"':
        p = closing_quote(p + 1, end, &escaped);
        return p ? p + 1 : NULL;
    case 't':
        return after_word(p, end, "true", 4);
    case 'f':
        return after_word(p, end, "false", 5);
    case 'n':
        return after_word(p, end, "null", 4);
    default:
        return after_number(p, end);
    }
}

/* From behind `{` or a comma to the value of the next member. */
static inline const byte *after_name(const byte *p, const byte *end)
{
    if (p >= end || *p != '"' || !(p = after_scalar(p, end)))
        return NULL;
    p = after_blanks(p, end);
    return p < end && *p == ':' ? after_blanks(p + 1, end) : NULL;
}

/* A whole value, `depth` levels being open around it; without recursion, whatever comes. */
static inline const byte *after_value(const byte *p, const byte *end, int depth)
{
    byte closers[MAX_DEPTH];
    int open = 0;
    for (;;) {
        if (p < end && (*p == '{' || *p == '[')) {
            if (depth + open >= MAX_DEPTH)
                return NULL;
            byte closer = closers[open++] = (byte)(*p + 2); /* in ASCII, the closing one is two further */
            p = after_blanks(p + 1, end);
            if (p >= end || *p != closer) {
                if (closer == '}' && !(p = after_name(p, end)))
                    return NULL;
                continue;
            }
        } else if (!(p = after_scalar(p, end))) {
            return NULL;
        } else if (!open) {
            return p;
        } else {
            p = after_blanks(p, end);
        }
        while (p < end && *p == closers[open - 1]) { /* what ends here */
            p++;
            if (!--open)
                return p;
            p = after_blanks(p, end);
        }
        if (p >= end || *p != ',')
            return NULL;
        p = after_blanks(p + 1, end);
        if (closers[open - 1] == '}' && !(p = after_name(p, end)))
            return NULL;
    }
}

#endif
