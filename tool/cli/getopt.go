package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Flag is one option as it was given. Name is a letter, or a long name
// without its dashes.
type Flag struct{ Name, Value string }

// Getopt reads options by the rules of getopt(3): letters may be clustered
// (-an), the argument of a letter may be glued (-c3) or the next word, "--"
// and the first word that is no option end them, "-" alone is a word.
//
// spec lists the letters; ':' after one says that it takes an argument, "::"
// that it may have one glued to it. Each of long is a long option, with '='
// at its end when it takes an argument: --name=value or --name value. Flags
// come back in the order given, with the words that follow them.
//
// Errors are the sentences of getopt(3): "illegal option -- z" and "option
// requires an argument -- c"; hand them to Context.Usage.
func Getopt(spec string, args []string, long ...string) (flags []Flag, rest []string, err error) {
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		args = args[1:]
		if word == "--" {
			break
		}
		var f []Flag
		if strings.HasPrefix(word, "--") {
			f, args, err = longOption(word[2:], args, long)
		} else {
			f, args, err = cluster(spec, word[1:], args)
		}
		if err != nil {
			return nil, nil, err
		}
		flags = append(flags, f...)
	}
	return flags, args, nil
}

func cluster(spec, letters string, args []string) (flags []Flag, rest []string, err error) {
	for i := range len(letters) {
		name := letters[i : i+1]
		at := strings.Index(spec, name)
		if name == ":" || name == "-" || name[0] >= utf8.RuneSelf || at < 0 {
			r, _ := utf8.DecodeRuneInString(letters[i:])
			return nil, nil, fmt.Errorf("illegal option -- %c", r)
		}
		after := spec[at+1:]
		if !strings.HasPrefix(after, ":") {
			flags = append(flags, Flag{Name: name})
			continue
		}
		value := letters[i+1:]
		if value == "" && !strings.HasPrefix(after, "::") {
			if len(args) == 0 {
				return nil, nil, fmt.Errorf("option requires an argument -- %s", name)
			}
			value, args = args[0], args[1:]
		}
		return append(flags, Flag{name, value}), args, nil
	}
	return flags, args, nil
}

func longOption(word string, args, long []string) ([]Flag, []string, error) {
	name, value, glued := strings.Cut(word, "=")
	for _, l := range long {
		declared, takes := strings.CutSuffix(l, "=")
		switch {
		case declared != name:
			continue
		case !takes && glued:
			return nil, nil, fmt.Errorf("option takes no argument -- %s", name)
		case takes && !glued && len(args) == 0:
			return nil, nil, fmt.Errorf("option requires an argument -- %s", name)
		case takes && !glued:
			value, args = args[0], args[1:]
		}
		return []Flag{{name, value}}, args, nil
	}
	return nil, nil, fmt.Errorf("illegal option -- %s", name)
}
