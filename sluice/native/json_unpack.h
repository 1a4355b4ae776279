/* What a valid JSON string says where it is not simply its bytes: escapes, and base64.
 *
 * Both write no more bytes than the text has, and give the end, or NULL where the text says nothing that fits.
 */
#ifndef SLUICE_JSON_UNPACK_H
#define SLUICE_JSON_UNPACK_H

#include "json_text.h"

/* A valid string with escapes; a lone surrogate is no Unicode. */
static inline byte *unescaped(const byte *p, const byte *end, byte *out)
{
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        byte kind = p[1];
        p += 2;
        if (kind != 'u') {
            const char *at = strchr("bfnrt", kind);
            *out++ = at ? (byte) "\b\f\n\r\t"[at - "bfnrt"] : kind;
            continue;
        }
        uint32_t c = (uint32_t)unit_at(p, end);
        p += 4;
        if (c >= 0xD800 && c < 0xE000) {
            int low = end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? unit_at(p + 2, end) : -1;
            if (c >= 0xDC00 || low < 0xDC00 || low > 0xDFFF)
                return NULL;
            c = 0x10000 + ((c - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
            p += 6;
        }
        if (c < 0x80) {
            *out++ = (byte)c;
        } else {
            int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
            *out++ = (byte)((0xFF00 >> (more + 1) & 0xFF) | c >> 6 * more);
            while (more--)
                *out++ = (byte)(0x80 | (c >> 6 * more & 0x3F));
        }
    }
    return out;
}

static inline int base64_digit(byte c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : is_digit(c) ? c - '0' + 52 :
           c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64 in whole groups of four. */
static inline byte *unpacked(const byte *p, const byte *end, byte *out)
{
    if ((end - p) % 4)
        return NULL;
    for (; p < end; p += 4) {
        int pads = end - p > 4 || p[3] != '=' ? 0 : p[2] != '=' ? 1 : 2;
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++) {
            int digit = i < 4 - pads ? base64_digit(p[i]) : 0;
            if (digit < 0)
                return NULL;
            bits = bits << 6 | (uint32_t)digit;
        }
        if (bits & ((1u << 8 * pads) - 1)) /* bits that no byte takes */
            return NULL;
        for (int i = 0; i < 3 - pads; i++)
            *out++ = (byte)(bits >> (16 - 8 * i));
    }
    return out;
}

#endif
