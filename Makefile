# make install: the program, its names for other tools, completions and man pages below PREFIX. make uninstall removes
# exactly these. DESTDIR is put before PREFIX, as packagers expect it. BIN is a program that is there already: it lists its
# subcommands and names itself (man --list).

PREFIX ?= /usr/local
DESTDIR ?=
BIN ?= target/release/runai-credential

NAME := runai-credential
# kubectl runs this as its plugin `kubectl runai-credential`: the whole program, not one subcommand.
PLUGIN := kubectl-runai_credential

ROOT := $(DESTDIR)$(PREFIX)
BASH := $(ROOT)/share/bash-completion/completions/$(NAME)
ZSH := $(ROOT)/share/zsh/site-functions/_$(NAME)
FISH := $(ROOT)/share/fish/vendor_completions.d/$(NAME).fish
MAN := $(ROOT)/share/man/man1

.PHONY: install uninstall package
target/release/$(NAME):
	cargo build --release --locked

install: $(BIN)
	install -d "$(ROOT)/bin" "$(dir $(BASH))" "$(dir $(ZSH))" "$(dir $(FISH))" "$(MAN)"
	install -m 755 "$(BIN)" "$(ROOT)/bin/$(NAME)"
	ln -sf $(NAME) "$(ROOT)/bin/$(PLUGIN)"
	"$(BIN)" completions bash >"$(BASH)"
	"$(BIN)" completions zsh >"$(ZSH)"
	"$(BIN)" completions fish >"$(FISH)"
	"$(BIN)" man >"$(MAN)/$(NAME).1"
	"$(BIN)" man --list | while read -r command names; do \
		"$(BIN)" man "$$command" >"$(MAN)/$(NAME)-$$command.1" && chmod 644 "$(MAN)/$(NAME)-$$command.1" || exit 1; \
		for name in $$names; do ln -sf $(NAME) "$(ROOT)/bin/$$name" || exit 1; done; \
	done
	chmod 644 "$(BASH)" "$(ZSH)" "$(FISH)" "$(MAN)/$(NAME).1"

uninstall:
	"$(ROOT)/bin/$(NAME)" man --list | while read -r command names; do \
		rm -f "$(MAN)/$(NAME)-$$command.1" || exit 1; \
		for name in $$names; do rm -f "$(ROOT)/bin/$$name" || exit 1; done; \
	done
	rm -f "$(ROOT)/bin/$(NAME)" "$(ROOT)/bin/$(PLUGIN)" "$(BASH)" "$(ZSH)" "$(FISH)" "$(MAN)/$(NAME).1"

# A Debian package, by cargo-deb (cargo install cargo-deb --locked): target/debian/*.deb.
package: $(BIN)
	rm -rf target/package
	$(MAKE) install DESTDIR=target/package PREFIX=/usr BIN="$(BIN)"
	gzip -9n target/package/usr/share/man/man1/*.1
	cargo deb --no-build --locked
