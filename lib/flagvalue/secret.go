package flagvalue

import "sync/atomic"

// Secret is a password or key, which may change while others read it. The zero value is empty. Copies made after Set are the same secret.
type Secret struct {
	text *atomic.Pointer[string]
}

// NewSecret returns a secret with a value.
func NewSecret(text string) Secret {
	var s Secret
	_ = s.Set(text) // never fails
	return s
}

// Get returns the present value.
func (s Secret) Get() string {
	if s.text == nil {
		return ""
	}
	return *s.text.Load()
}

// String returns the value: whoever shows flags asks IsSecret first.
func (s Secret) String() string { return s.Get() }

// Set changes the value. The first time is before anybody else has the secret, later ones may come at any time.
func (s *Secret) Set(text string) error {
	if s.text == nil {
		s.text = new(atomic.Pointer[string])
	}
	s.text.Store(&text)
	return nil
}

// Live tells that Set may be called at any time.
func (*Secret) Live() bool { return true }
