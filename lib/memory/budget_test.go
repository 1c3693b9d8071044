package memory

import (
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

// TestReserveMore: who holds much leaves room for those who need little.
func TestReserveMore(t *testing.T) {
	b := NewBudget(6400)
	held := int64(0)
	for b.ReserveMore(50, held, "a large query") == nil {
		held += 50
	}
	if held != 5600 {
		t.Errorf("one user gets %d bytes of 6400", held)
	}
	err := b.ReserveMore(50, held, "a large query")
	if errkind.Of(err) != errkind.Overloaded || !strings.Contains(err.Error(), "5600 of 6400 bytes are in use") || !strings.Contains(err.Error(), "-memory.allowedBytes") {
		t.Errorf("got %v", err)
	}
	for range 8 {
		if err := b.ReserveMore(100, 0, "a small query"); err != nil {
			t.Error(err)
		}
	}
	if err := b.ReserveMore(1, 0, "a small query"); errkind.Of(err) != errkind.Overloaded {
		t.Errorf("a full budget gives %v", err)
	}
	if b.Used() != 6400 {
		t.Errorf("%d bytes are used", b.Used())
	}
}
