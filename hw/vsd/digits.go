package vsd

// ValidKVNR reports whether s is the ten-character part of a health insurance number with the right check digit: the
// letter as two digits, weights 1 and 2 in turn, digit sums, modulo 10. A wrong check digit is no reason to refuse a
// card: test cards and private insurers have some.
func ValidKVNR(s string) bool {
	if len(s) != 10 || s[0] < 'A' || s[0] > 'Z' || !allDigits(s[1:]) {
		return false
	}
	letter := int(s[0]-'A') + 1
	digits := []int{letter / 10, letter % 10}
	for i := 1; i < 9; i++ {
		digits = append(digits, int(s[i]-'0'))
	}
	return weighted(digits, 1) == int(s[9]-'0')
}

// ValidIK reports whether s is an Institutionskennzeichen with the right check digit: digits 3 to 8, weights 2 and 1 in
// turn, digit sums, modulo 10.
func ValidIK(s string) bool {
	if len(s) != 9 || !allDigits(s) {
		return false
	}
	var digits []int
	for i := 2; i < 8; i++ {
		digits = append(digits, int(s[i]-'0'))
	}
	return weighted(digits, 2) == int(s[8]-'0')
}

// weighted adds the digit sums of the products with the weights 1 and 2 in turn and returns the last digit.
func weighted(digits []int, weight int) int {
	sum := 0
	for _, d := range digits {
		p := d * weight
		sum += p/10 + p%10
		weight = 3 - weight
	}
	return sum % 10
}
