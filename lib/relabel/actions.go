package relabel

import (
	"crypto/md5"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/model"
)

// action is what a rule may do, and which fields it takes.
type action struct {
	run       func(r *rule, s *state) (keep bool)
	needs     []string // fields which must be there
	needsIf   string   // a field which must be there unless there is an if
	refuses   []string // fields which must not be there
	dropUnmet bool     // a series which the if does not select is dropped
	parts     bool     // the expression is looked for anywhere in a value
	template  bool     // the target label may have groups in it
}

// actionNames are all actions.
func actionNames() []string {
	return []string{
		"replace", "replace_all", "keep", "drop", "hashmod", "labelmap", "labelmap_all", "labeldrop", "labelkeep", "lowercase", "uppercase",
		"keepequal", "dropequal", "keep_if_equal", "drop_if_equal", "keep_if_contains", "drop_if_contains", "keep_metrics", "drop_metrics", "graphite",
	}
}

// actionOf returns the action with the given name.
func actionOf(name string) (a action, ok bool) {
	both := []string{fieldSource, fieldTarget}
	switch name {
	case "replace":
		a = action{run: (*rule).replace, needs: []string{fieldTarget}, template: true}
	case "replace_all":
		a = action{run: (*rule).replaceAll, needs: both, parts: true}
	case "keep":
		a = action{run: (*rule).keep, needsIf: fieldSource, dropUnmet: true}
	case "drop":
		a = action{run: not((*rule).keep), needsIf: fieldSource}
	case "hashmod":
		a = action{run: (*rule).hashMod, needs: []string{fieldSource, fieldTarget, fieldModulus}}
	case "labelmap":
		a = action{run: (*rule).labelMap}
	case "labelmap_all":
		a = action{run: (*rule).labelMapAll, parts: true}
	case "labeldrop":
		a = action{run: (*rule).labelDrop}
	case "labelkeep":
		a = action{run: (*rule).labelKeep}
	case "lowercase":
		a = action{run: (*rule).lowerCase, needs: both}
	case "uppercase":
		a = action{run: (*rule).upperCase, needs: both}
	default:
		return filterOf(name)
	}
	return a, true
}

// filterOf returns the action with the given name if it is one of those which compare labels, or looks at metric names.
func filterOf(name string) (a action, ok bool) {
	both := []string{fieldSource, fieldTarget}
	switch name {
	case "keepequal":
		a = action{run: (*rule).equal, needs: both}
	case "dropequal":
		a = action{run: not((*rule).equal), needs: both}
	case "keep_if_equal":
		a = action{run: (*rule).allEqual, needs: []string{fieldSource}, refuses: []string{fieldTarget}}
	case "drop_if_equal":
		a = action{run: not((*rule).allEqual), needs: []string{fieldSource}, refuses: []string{fieldTarget}}
	case "keep_if_contains":
		a = action{run: (*rule).contains, needs: both}
	case "drop_if_contains":
		a = action{run: not((*rule).contains), needs: both}
	case "keep_metrics":
		a = action{run: (*rule).keepMetrics, needsIf: fieldRegex, refuses: []string{fieldSource}, dropUnmet: true}
	case "drop_metrics":
		a = action{run: not((*rule).keepMetrics), needsIf: fieldRegex, refuses: []string{fieldSource}}
	case "graphite":
		a = action{run: (*rule).takeApart, needs: []string{fieldMatch, fieldLabels}, refuses: []string{fieldSource, fieldTarget, fieldRegex, fieldReplacement}}
	default:
		return a, false
	}
	return a, true
}

func not(f func(r *rule, s *state) bool) func(r *rule, s *state) bool {
	return func(r *rule, s *state) bool { return !f(r, s) }
}

func (r *rule) replace(s *state) bool {
	if !r.pattern.matches(r.peek(s)) {
		return true
	}
	value := r.input(s)
	groups := r.pattern.groups(value)
	target := r.target.expand(s, r.pattern.whole, value, groups)
	s.set(target, r.replacement.expand(s, r.pattern.whole, value, groups))
	return true
}

func (r *rule) replaceAll(s *state) bool {
	if text, ok := r.replaceParts(s, r.input(s)); ok {
		s.set(r.target.literal, text)
	}
	return true
}

// replaceParts replaces all matches in a text; false when there are none.
func (r *rule) replaceParts(s *state, text string) (string, bool) {
	re := r.pattern.parts
	places := re.FindAllStringSubmatchIndex(text, -1)
	if len(places) == 0 {
		return text, false
	}
	buf, end := s.buf[:0], 0
	for _, groups := range places {
		buf = append(buf, text[end:groups[0]]...)
		buf = r.replacement.appendTo(buf, s, re, text, groups)
		end = groups[1]
	}
	s.buf = append(buf, text[end:]...)
	return string(s.buf), true
}

func (r *rule) keep(s *state) bool { return r.pattern.matches(r.peek(s)) }

// hashMod sets a label to the remainder of a hash, which tells series apart into as many shares.
func (r *rule) hashMod(s *state) bool {
	var digits [20]byte
	s.setBytes(r.target.literal, strconv.AppendUint(digits[:0], r.sum(r.peek(s))%r.modulus, 10))
	return true
}

// md5Sum is the hash of Prometheus: the last 8 bytes of the MD5 of the value.
func md5Sum(value string) uint64 {
	sum := md5.Sum([]byte(value))
	return binary.BigEndian.Uint64(sum[8:])
}

// labelMap copies labels with a matching name to names made of it.
func (r *rule) labelMap(s *state) bool {
	if !slices.ContainsFunc(s.labels, func(l model.Label) bool { return r.pattern.matches(l.Name) }) {
		return true
	}
	for _, l := range s.sorted() {
		if r.pattern.matches(l.Name) {
			s.set(r.replacement.expand(s, r.pattern.whole, l.Name, r.pattern.groups(l.Name)), l.Value)
		}
	}
	return true
}

// labelMapAll gives labels other names.
func (r *rule) labelMapAll(s *state) bool {
	before := s.sorted()
	var renamed []model.Label
	for _, l := range before {
		if name, ok := r.replaceParts(s, l.Name); ok && name != l.Name {
			renamed = append(renamed, model.Label{Name: name, Value: l.Value})
			s.set(l.Name, "")
		}
	}
	for _, l := range renamed {
		s.set(l.Name, l.Value)
	}
	return true
}

func (r *rule) labelDrop(s *state) bool {
	s.labels = slices.DeleteFunc(s.labels, func(l model.Label) bool { return r.pattern.matches(l.Name) })
	return true
}

func (r *rule) labelKeep(s *state) bool {
	s.labels = slices.DeleteFunc(s.labels, func(l model.Label) bool { return !r.pattern.matches(l.Name) })
	return true
}

func (r *rule) lowerCase(s *state) bool {
	s.set(r.target.literal, strings.ToLower(r.input(s)))
	return true
}

func (r *rule) upperCase(s *state) bool {
	s.set(r.target.literal, strings.ToUpper(r.input(s)))
	return true
}

func (r *rule) equal(s *state) bool { return r.peek(s) == s.get(r.target.literal) }

func (r *rule) allEqual(s *state) bool {
	first := s.get(r.source[0])
	return !slices.ContainsFunc(r.source[1:], func(name string) bool { return s.get(name) != first })
}

func (r *rule) contains(s *state) bool {
	value := s.get(r.target.literal)
	return !slices.ContainsFunc(r.source, func(name string) bool { return !strings.Contains(value, s.get(name)) })
}

func (r *rule) keepMetrics(s *state) bool { return r.pattern.matches(s.get(model.MetricNameLabel)) }

func (r *rule) takeApart(s *state) bool {
	r.graphite.apply(s, s.get(model.MetricNameLabel))
	return true
}
