package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFile(t *testing.T) {
	s := &Session{lines: []line{{client, []byte{1, 2}}, {server, nil}, {caller, []byte("a\nb")}}}
	path := filepath.Join(t.TempDir(), "session")
	if err := os.WriteFile(path, []byte(s.Text()), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || got.Text() != s.Text() || strings.Join(got.Results(), "|") != "a\nb" {
		t.Errorf("%q becomes %q, %v", s.Text(), got.Text(), err)
	}
	for _, bad := range []string{"> 1", "? 00", "= a"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q gives %v", bad, err)
		}
	}
}

// What may differ between versions, and what may not.
func TestSame(t *testing.T) {
	hello := make([]byte, helloSize)
	change := func(b []byte, at int) []byte {
		b = append([]byte(nil), b...)
		b[at]++
		return b
	}
	frame := append(make([]byte, frameSize), 7, 'x')
	failure := change(change(change(change(frame, 4), 4), 4), 4)
	for _, tc := range []struct {
		what  string
		a, b  []byte
		first bool
		same  bool
	}{
		{"another limit in a hello", hello, change(hello, 13), true, true},
		{"other capabilities", hello, change(hello, 23), true, false},
		{"another status", hello, change(hello, 10), true, false},
		{"another byte of a frame", frame, change(frame, 17), false, false},
		{"another text of an error", failure, change(failure, 17), false, true},
		{"another kind of an error", failure, change(failure, 16), false, false},
		{"an error instead of data", failure, frame, false, false},
	} {
		if got := same(tc.a, tc.b, tc.first); got != tc.same {
			t.Errorf("%s: same is %v", tc.what, got)
		}
	}
	if !offers(change(hello, 23), hello) || offers(hello, change(hello, 23)) || offers(change(hello, 12), hello) || offers(change(hello, 9), hello) {
		t.Error("a hello must offer what the recorded one did, and may offer more")
	}
}
