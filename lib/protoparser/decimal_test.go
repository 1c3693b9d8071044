package protoparser

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestParseNumbers compares with strconv.
func TestParseNumbers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	texts := []string{"", "-", "+", ".", "-.", "1.", ".5", "-0", "0", "-0.0", "+1", "1e5", "1.5e-7", "nan", "Inf", "-inf", "1_0", "0x1p-2", "1.2.3", "12a", "999999999999999", "1000000000000000", "9007199254740993", "0.1", "0.000000000000001", "123456789012345.6",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "999999999999999999", "1e400", "--1", "1-"}
	for range 20_000 {
		text := strconv.FormatFloat(math.Float64frombits(rng.Uint64()), "gfe"[rng.IntN(3)], rng.IntN(20), 64)
		if rng.IntN(2) == 0 {
			text = strconv.FormatFloat(float64(rng.IntN(1e9))/math.Pow10(rng.IntN(9)), 'f', -1, 64)
		}
		texts = append(texts, text[:min(len(text), 1+rng.IntN(20))])
	}
	for _, text := range texts {
		want, err := strconv.ParseFloat(text, 64)
		if got, ok := ParseFloat([]byte(text)); ok != (err == nil) || ok && math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%q as a float is %v, %v; want %v, %v", text, got, ok, want, err)
		}
		wantInt, err := strconv.ParseInt(text, 10, 64)
		if got, ok := ParseInt([]byte(text)); ok != (err == nil) || ok && got != wantInt {
			t.Fatalf("%q as an integer is %v, %v; want %v, %v", text, got, ok, wantInt, err)
		}
	}
}

func TestSecondsOrMs(t *testing.T) {
	for text, want := range map[string]int64{"1717200000": 1717200000000, "1717200000.0004": 1717200000000, "1717200000123": 1717200000123, "-5": -5000, "4294967295": 4294967295000, "4294967296": 4294967296} {
		if got, ok := SecondsOrMs([]byte(text)); !ok || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "x", "nan", "inf", "1e300", "-1e20"} {
		if got, ok := SecondsOrMs([]byte(text)); ok {
			t.Errorf("%s is %d", text, got)
		}
		if got, ok := Seconds([]byte(text)); ok {
			t.Errorf("%s is %d", text, got)
		}
	}
}
