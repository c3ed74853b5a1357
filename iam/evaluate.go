package iam

// request is what an identity wants to do.
type request struct {
	action string // in AWS's form, "service:Operation"
	bucket string
	key    string
}

// verdict is the outcome of an evaluation. Its zero value is a denial.
type verdict uint8

const (
	deny verdict = iota
	allow
)

// evaluate decides, from values alone. Whatever nothing allows is denied; a request without an action is a mistake of the
// caller, and denied to the root identity too.
func evaluate(id Identity, r request) verdict {
	if r.action == "" || id.Anonymous() {
		return deny
	}
	if id.Root {
		return allow
	}
	return deny
}
