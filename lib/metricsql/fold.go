package metricsql

import (
	"math"
	"strings"
)

// The precedences of binary operators; a larger one binds tighter.
const (
	precLowest  = 1
	precDefault = 1
	precIf      = 2
	precOr      = 3
	precAnd     = 4
	precCompare = 5
	precAdd     = 6
	precMul     = 7
	precPow     = 8
)

// precedence returns the precedence of a binary operator in lower case; 0 if it is none.
func precedence(op string) int {
	switch op {
	case "default":
		return precDefault
	case "if", "ifnot":
		return precIf
	case "or":
		return precOr
	case "and", "unless":
		return precAnd
	case "==", "!=", "<", ">", "<=", ">=":
		return precCompare
	case "+", "-":
		return precAdd
	case "*", "/", "%", "atan2":
		return precMul
	case "^":
		return precPow
	}
	return 0
}

func isComparison(op string) bool { return precedence(op) == precCompare }

// isSetOp reports whether the operator chooses between points instead of computing with them.
func isSetOp(op string) bool {
	prec := precedence(op)
	return prec > 0 && prec <= precAnd
}

// fold returns the value of an operation on two literals, or the operation itself.
func fold(be *BinaryExpr) Expr {
	switch left := be.Left.(type) {
	case *NumberExpr:
		if right, ok := be.Right.(*NumberExpr); ok && be.FillLeft == nil && be.FillRight == nil {
			return &NumberExpr{base: base{left.pos}, Value: foldNumbers(be.Op, be.Bool, left.Value, right.Value)}
		}
	case *StringExpr:
		if right, ok := be.Right.(*StringExpr); ok && !isSetOp(be.Op) {
			return foldStrings(be, left, right)
		}
	}
	return be
}

func foldStrings(be *BinaryExpr, left, right *StringExpr) Expr {
	if be.Op == "+" {
		return &StringExpr{base{left.pos}, left.Value + right.Value}
	}
	v := math.NaN()
	if isComparison(be.Op) {
		v = foldComparison(be.Bool, holds(be.Op, float64(strings.Compare(left.Value, right.Value)), 0), 1)
	}
	return &NumberExpr{base: base{left.pos}, Value: v}
}

func foldNumbers(op string, asBool bool, a, b float64) float64 {
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	case "%":
		return math.Mod(a, b)
	case "^":
		if math.IsNaN(a) {
			return a
		}
		return math.Pow(a, b)
	case "atan2":
		return math.Atan2(a, b)
	case "and", "if":
		if math.IsNaN(b) {
			return b
		}
		return a
	case "unless", "ifnot":
		if math.IsNaN(b) {
			return a
		}
		return math.NaN()
	case "or", "default":
		if math.IsNaN(a) {
			return b
		}
		return a
	}
	return foldComparison(asBool, holds(op, a, b), a)
}

// foldComparison returns the value of a comparison which holds or not; value is its left side.
func foldComparison(asBool, holds bool, value float64) float64 {
	switch {
	case asBool && holds:
		return 1
	case asBool:
		return 0
	case holds:
		return value
	}
	return math.NaN()
}

// holds compares two numbers. Two NaN are equal.
func holds(op string, a, b float64) bool {
	switch op {
	case "==":
		return a == b || math.IsNaN(a) && math.IsNaN(b)
	case "!=":
		return a != b && !(math.IsNaN(a) && math.IsNaN(b))
	case "<":
		return a < b
	case ">":
		return a > b
	case "<=":
		return a <= b
	}
	return a >= b
}

// namedNumber returns the value of Inf and NaN in any case.
func namedNumber(t token) (float64, bool) {
	switch {
	case isKeyword(t, "inf"):
		return math.Inf(1), true
	case isKeyword(t, "nan"):
		return math.NaN(), true
	}
	return 0, false
}
