// Package echo is what ping and ping6 share: the data of a request, when
// requests leave, what came back of them, and how long that took.
package echo

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// HeaderLen is the length of an echo message's header, and of the time stamp
// in its data.
const HeaderLen = 8

// FloodPace is how long a flood waits for a reply before it sends again.
const FloodPace = 10 * time.Millisecond

// Number reads what strtol does with base 0, between low and high.
func Number(s string, low, high int) (int, bool) {
	n, err := strconv.ParseInt(s, 0, 32)
	return int(n), err == nil && int(n) >= low && int(n) <= high
}

// Seconds reads a number of seconds above 0, with a fraction if need be.
func Seconds(s string) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0) || f > 1e6 {
		return 0, false
	}
	return max(time.Duration(f*float64(time.Second)), 1), true
}

// Pattern reads 1 to 32 hexadecimal digits; a last lone one is an octet.
func Pattern(s string) ([]byte, error) {
	digits := s
	if len(s)%2 == 1 {
		digits = s[:len(s)-1] + "0" + s[len(s)-1:]
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(s) == 0 || len(s) > 32 {
		return nil, fmt.Errorf("\"-p %s\": patterns must be specified with 1-32 hex digits", s)
	}
	return b, nil
}

// Fill writes the data behind the time stamp: each octet its own number, a
// pattern, or noise.
func Fill(data, pattern []byte, random bool) {
	if len(data) <= HeaderLen {
		return
	}
	body := data[HeaderLen:]
	for i := range body {
		switch {
		case random:
			body[i] = byte(rand.Uint32())
		case pattern != nil:
			body[i] = pattern[i%len(pattern)]
		default:
			body[i] = byte(i + HeaderLen)
		}
	}
}

// Differs is the first octet behind the time stamp in which what came is not
// what was sent; -1 when there is none, as far as both go.
func Differs(sent, got []byte) int {
	for i := HeaderLen; i < min(len(sent), len(got)); i++ {
		if sent[i] != got[i] {
			return i
		}
	}
	return -1
}

// Millis is d in milliseconds.
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
