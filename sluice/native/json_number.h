/* Numbers as text, read exactly: whole numbers, decimals by their digits, floats rounded correctly.
 *
 * Decides which texts surely are a number of a type. What it does not take (more than 38 digits, far exponents) may
 * still be one: `sluice.json.numbers` knows.
 */
#ifndef SLUICE_JSON_NUMBER_H
#define SLUICE_JSON_NUMBER_H

#define _GNU_SOURCE
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#include "json_text.h"

#define LONGEST 400 /* bytes of a float that are worth reading here */

typedef unsigned __int128 wide;

typedef struct {
    wide digits; /* without sign and point */
    int64_t exponent;
    int negative, exact;
} number;

/* Read the text of one number, all of it or nothing. */
static inline int number_of(const byte *p, const byte *end, number *out)
{
    uint64_t low = 0;
    wide digits = 0;
    int size = 0, exact = 1; /* significant digits so far */
    int64_t exponent = 0;
    if (p >= end || after_number(p, end) != end)
        return 0;
    out->negative = *p == '-';
    p += out->negative;
    for (int fraction = 0; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            fraction = 1;
            continue;
        }
        unsigned digit = *p - '0';
        if (size < 19)
            low = low * 10 + digit;
        else if (size < 38)
            digits = (size == 19 ? low : digits) * 10 + digit;
        else
            exact = 0;
        size += size || digit;
        exponent -= fraction;
    }
    if (p < end) {
        int sign = p[1] == '-' ? -1 : 1;
        int64_t power = 0;
        for (p += 1 + !is_digit(p[1]); p < end; p++)
            power = power < 1000000 ? power * 10 + (*p - '0') : power;
        exponent += sign * power;
    }
    out->digits = size > 19 ? digits : low;
    out->exponent = exponent;
    out->exact = exact;
    return 1;
}

/* The number times 10^scale, where that is whole and at most `limit`. */
static inline int whole_of(const number *n, int scale, wide limit, wide *out)
{
    wide value = n->digits;
    int64_t power = n->exponent + scale;
    if (!n->exact)
        return 0;
    if (value && power) {
        if (power < -38 || power > 38)
            return 0;
        for (; power < 0; power++) {
            if (value <= UINT64_MAX) { /* much faster to divide */
                if ((uint64_t)value % 10)
                    return 0;
                value = (uint64_t)value / 10;
            } else {
                if (value % 10)
                    return 0;
                value /= 10;
            }
        }
        for (; power > 0; power--) {
            if (value > ~(wide)0 / 10) /* and so above any limit, which has at most 38 digits */
                return 0;
            value *= 10;
        }
    }
    *out = value;
    return value <= limit;
}

/* The nearest double, by way of the text's own digits where it is no easy case. */
static inline int float_of(const byte *p, const byte *end, const number *n, locale_t plain, double *out)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (n->exact && n->digits <= 1ull << 53 && n->exponent >= -22 && n->exponent <= 22) {
        double value = (double)(uint64_t)n->digits; /* exact, and so is the power: rounded once */
        value = n->exponent < 0 ? value / powers[-n->exponent] : value * powers[n->exponent];
        *out = n->negative ? -value : value;
        return 1;
    }
    char text[LONGEST + 1];
    size_t size = (size_t)(end - p);
    if (size > LONGEST)
        return 0;
    memcpy(text, p, size);
    text[size] = 0;
    *out = strtod_l(text, NULL, plain);
    return 1;
}

#endif
