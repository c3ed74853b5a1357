package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cairn"
)

// PutPolicy stores a policy under a name, or replaces it. Errors: *PolicyError, ErrExists for the name of a built-in one.
func (s *Store) PutPolicy(ctx context.Context, name string, document []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if builtins[name] != nil {
		return &cairn.Error{Op: "iam.put policy", Subject: name, Err: fmt.Errorf("built in: %w", cairn.ErrExists)}
	}
	if _, err := ParsePolicy(document); err != nil {
		return &cairn.Error{Op: "iam.put policy", Subject: name, Err: err}
	}
	return s.change(ctx, "iam.put policy", name, func(t *table) error {
		return t.put(policyRows+name, NamedPolicy{Name: name, Document: string(document), Updated: t.now})
	})
}

// DeletePolicy removes a policy that nobody has. Errors: ErrNotFound, ErrNotEmpty.
func (s *Store) DeletePolicy(ctx context.Context, name string) error {
	return s.change(ctx, "iam.delete policy", name, func(t *table) error {
		var holder string
		t.users(func(u *User) bool {
			if slices.Contains(u.Policies, name) {
				holder = "user " + u.Name
			}
			return holder == ""
		})
		t.groups(func(g *Group) {
			if slices.Contains(g.Policies, name) {
				holder = "group " + g.Name
			}
		})
		if holder != "" {
			return fmt.Errorf("%s has it: %w", holder, cairn.ErrNotEmpty)
		}
		return t.delete(policyRows + name)
	})
}

func (t *table) groups(f func(g *Group)) {
	for name := range t.rows {
		var g Group
		if strings.HasPrefix(name, groupRows) && t.get(name, &g) == nil {
			f(&g)
		}
	}
}

// Policies returns all policies by name, the built-in ones among them.
func (s *Store) Policies(ctx context.Context) ([]NamedPolicy, error) {
	n, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]NamedPolicy, 0, len(n.policies))
	for _, p := range n.policies {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b NamedPolicy) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// PutGroup stores a group, or replaces its policies. Errors: ErrInvalid, ErrNotFound for a policy.
func (s *Store) PutGroup(ctx context.Context, g Group) error {
	if err := checkName(g.Name); err != nil {
		return err
	}
	return s.change(ctx, "iam.put group", g.Name, func(t *table) error {
		if err := t.known(g.Policies, nil); err != nil {
			return err
		}
		return t.put(groupRows+g.Name, g)
	})
}

// DeleteGroup removes a group that nobody is in. Errors: ErrNotFound, ErrNotEmpty.
func (s *Store) DeleteGroup(ctx context.Context, name string) error {
	return s.change(ctx, "iam.delete group", name, func(t *table) error {
		var inside string
		t.users(func(u *User) bool {
			if slices.Contains(u.Groups, name) {
				inside = u.Name
			}
			return inside == ""
		})
		if inside != "" {
			return fmt.Errorf("user %s is in it: %w", inside, cairn.ErrNotEmpty)
		}
		return t.delete(groupRows + name)
	})
}

// Groups returns all groups by name.
func (s *Store) Groups(ctx context.Context) ([]Group, error) {
	n, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Group, 0, len(n.groups))
	for _, g := range n.groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
