"""Writes src/text/jinja/features.json: small templates, each with what jinja2 makes of it.

    python3 tools/templates/features.py        # needs jinja2 3.1.6

Chains of values with `;` between them are one template each, so that a fault does not hide another.
"""

import datetime
import json
import pathlib

from environment import environment, prepared

NOW = datetime.datetime(2026, 11, 29, 7, 5, 9, 42)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Hi "<é>" 日本'},
    {"role": "assistant", "content": "Hello.", "n": 1.0},
    {"role": "user", "content": "Why?"},
]

# Expressions, `;` between them.
EXPRESSIONS = r"""
7 ; -7 ; 1_500 ; 0xff ; 0o17 ; 0b101 ; 2.50 ; 1e3 ; 1.5e-7 ; 1e16 ; 123456789.125 ; 1e22 ; 5e-324 ; -0.0
'x' ; "y" ; 'a' 'b' ; 'tab\there' ; 'a\\b' ; 'q\'q' ; '\x41\u00e9' ; 'odd \q' ; [] ; {} ; () ; (1,) ; (1, 2) ; [1, 'b', none]
{'k': 1, 'l': [2]} ; {1: 'a', 1.0: 'b', true: 'c'} ; {(1, 2): 'x'} ; ['it\'s', 'say "hi"', 'both \' and "'] ; ['a\nb', '\u200b', '\x07', '\xad', 'é', '🦊']
1 + 2 ; 1 - 2.5 ; 'a' + 'b' ; [1] + [2] ; (1,) + (2,) ; [1] + (2,) ; 'a' + 1 ; 2 * 3 ; 'ab' * 3 ; 3 * 'ab' ; 'ab' * -1 ; [0] * 3 ; 7 / 2 ; 6 / 3 ; 1 / 0
7 // 2 ; -7 // 2 ; 7.5 // 2 ; 7 % 3 ; -7 % 3 ; 7 % -3 ; 7.5 % 2 ; -7.5 % 2 ; 2 ** 10 ; 2 ** -1 ; 2 ** 3 ** 2 ; -2 ** 2 ; 2 ** 0.5 ; 1 ~ 2 ~ none ~ true ; 'a' ~ [1] ; 1 + 2 ~ 3
1 < 2 < 3 ; 3 > 2 > 2 ; 1 == 1.0 ; true == 1 ; '1' == 1 ; none == none ; [1, 2] == [1, 2] ; [1] == (1,) ; {'a': 1} == {'a': 1.0} ; 'a' < 'b' ; [1, 2] < [1, 3] ; 1 < 'a' ; none < 1 ; 'a' != 'b'
'a' in 'cat' ; 'role' in messages[0] ; 1 in [1.0] ; 2 not in (1, 3) ; 'x' in {} ; 1 in 'a' ; 'a' in none ; 'a' in missing ; 3 in range(5) ; 9 in range(5)
not 0 ; not '' ; not [1] ; [] or 'else' ; 'a' and 'b' ; 0 and 1 / 0 ; none or false ; 1 if true else 2 ; 1 if false ; 'a' if missing else 'b' ; not not 1 ; not 1 == 2
missing ; missing.x ; missing[0] ; missing + 1 ; missing ~ 'x' ; missing == nothing ; messages[9] ; messages[9].x ; messages[0].x ; messages[0].x.y ; missing() ; missing | length ; missing | list ; -missing ; missing < 1
messages[0].role ; messages[0]['role'] ; messages[-1].content ; messages.0.role ; messages[0].get('role') ; messages[0].get('x') ; messages[0].get('x', 'd') ; messages[2].n ; messages[1:3] | length ; messages[::-1][0].content
'abcdef'[1] ; 'abcdef'[-1] ; 'abcdef'[9] ; 'abcdef'[1:3] ; 'abcdef'[:-2] ; 'abcdef'[::2] ; 'abcdef'[::-1] ; 'abcdef'[4:1:-1] ; '日本語'[1] ; [1, 2, 3, 4][-3:] ; (1, 2, 3)[1:] ; range(10)[2:8:3] ; range(10)[3] ; [1, 2][::0] ; 'ab'['x'] ; 'abc'[1.0]
'a b'.upper() ; 'A B'.lower() ; 'hello world'.title() ; "they're".title() ; 'hELLO'.capitalize() ; 'aBc'.swapcase() ; 'ß'.upper() ; 'Straße'.casefold() ; ' x '.strip() ; 'xxaxx'.strip('x') ; 'xyaxy'.lstrip('xy') ; 'a\n\n'.rstrip() ; ' a'.lstrip()
'a,b,,c'.split(',') ; ' a  b '.split() ; 'a b c d'.split(' ', 2) ; ' a  b  c '.split(none, 1) ; 'a b c'.rsplit(' ', 1) ; ' a  b  c '.rsplit(none, 1) ; 'a'.split('') ; 'a\nb\r\nc\n'.splitlines() ; 'a\nb'.splitlines(true) ; ''.split() ; ''.split(',') ; 'a'.split(maxsplit=1)
'a-b-c'.partition('-') ; 'a-b-c'.rpartition('-') ; 'abc'.partition('x') ; 'abc'.rpartition('x') ; 'prefix-x'.removeprefix('prefix-') ; 'x.txt'.removesuffix('.txt') ; 'abc'.removeprefix('z')
'banana'.find('an') ; 'banana'.rfind('an') ; 'banana'.find('x') ; 'banana'.index('n') ; 'banana'.rindex('n') ; 'banana'.index('x') ; 'banana'.count('an') ; 'banana'.find('a', 2) ; 'banana'.count('a', 2, 4) ; '日本日'.rfind('日') ; 'abc'.count('')
'banana'.replace('a', 'o') ; 'banana'.replace('a', 'o', 2) ; 'ab'.replace('', '-') ; 'abc'.startswith('ab') ; 'abc'.startswith(('x', 'a')) ; 'abc'.endswith('c') ; 'abc'.startswith('b', 1) ; 'abc'.endswith(['c']) ; ''.startswith('')
'7'.zfill(3) ; '-7'.zfill(4) ; 'ab'.center(7) ; 'abc'.center(8, '*') ; 'ab'.ljust(5, '.') ; 'ab'.rjust(5) ; 'a\tb'.expandtabs(4) ; 'ab'.center(1) ; '-'.join(['a', 'b']) ; '-'.join([1]) ; ''.join('abc') ; ', '.join({'k': 1})
'ab1'.isalnum() ; 'ab'.isalpha() ; '12'.isdigit() ; '²'.isdigit() ; '²'.isdecimal() ; '½'.isnumeric() ; ' \n'.isspace() ; ''.isspace() ; 'Ab'.istitle() ; 'ab'.islower() ; 'AB1'.isupper() ; '1'.isupper() ; 'a_1'.isidentifier() ; 'é'.isascii() ; 'a\n'.isprintable()
'{} and {}'.format(1, 'b') ; '{0}{1}{0}'.format('x', 'y') ; '{name}!'.format(name='z') ; '{:>6}|{:<6}|{:^6}'.format('a', 'b', 'c') ; '{:05d}'.format(42) ; '{:+.2f}'.format(3.14159) ; '{:,}'.format(1234567) ; '{:x} {:#X} {:b}'.format(255, 255, 5) ; '{:.1%}'.format(0.256) ; '{!r}'.format('a') ; '{{}}'.format() ; '{:*^9}'.format('mid') ; '{0[1]} {1[k]}'.format([1, 2], {'k': 3}) ; '{:{}}'.format('a', 4) ; '{}'.format() ; '{:.3}'.format('abcdef') ; '{:e}'.format(12345.678) ; '{:g}'.format(0.00001) ; '{}'.format(none) ; '{:d}'.format('a') ; '{k}'.format_map({'k': 1}) ; '{:.3}'.format(2.0) ; '{:08.3f}'.format(-3.14159)
'%s' % 'a' ; '%s and %s' % (1, 2.0) ; '%d%%' % 50 ; '%5.1f|' % 3.14159 ; '%-5s|' % 'ab' ; '%05d' % 42 ; '%x %X %o' % (255, 255, 8) ; '%(a)s' % {'a': 1} ; '%r' % 'a' ; '%c' % 'x' ; '%e' % 12345.678 ; '%g' % 0.0001 ; '%s' % [1, 2] ; '%s' % none ; '%s %s' % 'a' ; 'a' % 'b' ; '%d' % 'a' ; '%+d' % 3 ; '%*d' % (5, 3) ; '%.2s' % 'abc' ; '%i' % 3.7 ; '%#x' % 255
messages[0].keys() ; messages[0].values() ; messages[0].items() ; messages[0].keys() | list ; messages[0].items() | list ; messages[0].copy() ; {'items': 3}['items'] ; {'a': 1}.a ; {'a': 1}['b'] ; {'a': 1}.update({'b': 2}) ; {'a': 1}.pop('a') ; {'a': 1}.setdefault('b', 1) ; [1, 2, 1].count(1) ; [1, 2].index(2) ; [1, 2].index(9) ; (1, 2).index(2) ; [1].copy() ; [1].append(2) ; [2, 1].sort()
(2.0).is_integer() ; 5 .bit_length() ; ''.__class__ ; messages.__class__.x ; {'__class__': 1}['__class__']
1 is number ; 1.5 is number ; true is number ; '1' is number ; 1 is integer ; true is integer ; 1.0 is integer ; 1.0 is float ; 1 is float ; true is boolean ; 1 is boolean ; 1 is true ; true is true ; false is false ; 0 is false ; none is none ; missing is none ; tools is none ; tools is defined ; missing is defined ; missing is undefined
'a' is string ; 1 is string ; {} is mapping ; [] is mapping ; 'a' is sequence ; [] is sequence ; {} is sequence ; (1,) is sequence ; none is sequence ; missing is sequence ; {}.keys() is sequence ; range(2) is sequence ; [] is iterable ; 'a' is iterable ; none is iterable ; 1 is iterable ; missing is iterable ; {}.items() is iterable ; ([1] | map('string')) is iterable ; ([1] | map('string')) is sequence
range is callable ; 'a' is callable ; 'a'.upper is callable ; missing is callable ; 3 is odd ; 4 is even ; 4 is odd ; 9 is divisibleby 3 ; 9 is divisibleby(2) ; 1 is sameas 1 ; none is sameas none ; [] is sameas [] ; 'a' is in 'abc' ; 1 is in [1, 2] ; 1 is not in [1] ; 1 is eq 1 ; 1 is equalto 2 ; 1 is ne 2 ; 2 is gt 1 ; 2 is greaterthan 3 ; 2 is ge 2 ; 1 is lt 2 ; 1 is lessthan 1 ; 1 is le 1 ; 'a' is lower ; 'A' is upper ; 'a' is upper ; 'upper' is filter ; 'nosuch' is filter ; 'odd' is test ; 1 is nosuch ; '<' | e is escaped ; 'a' is escaped ; x is not defined ; 1 is odd is even ; 'a' is string and 1 is odd
-3 | abs ; -3.5 | abs ; true | abs ; 'a' | abs ; {'role': 1} | attr('role') ; 'ab' | attr('upper') is callable ; 'hELLO wORLD' | capitalize ; 'ab' | center(6) ; [1, 2] | count ; missing | default('d') ; missing | d('d') ; none | default('d') ; '' | default('d', true) ; 'x' | default('d', boolean=true) ; messages[0].x | default('none')
{'b': 1, 'A': 2} | dictsort ; {'b': 1, 'A': 2} | dictsort(true) ; {'b': 1, 'A': 2} | dictsort(by='value') ; {'b': 1, 'A': 2} | dictsort(reverse=true) ; '<a href="x">\'&' | e ; '<' | escape | escape ; '<' | e ~ '<' ; ('<' | e) + '<' ; '<' | safe | e ; '<' | forceescape ; 3 | e ; 500 | filesizeformat ; 1 | filesizeformat ; 1500 | filesizeformat ; 1500000 | filesizeformat ; 2048 | filesizeformat(true)
[1, 2] | first ; [] | first ; 'ab' | first ; {'k': 1} | first ; [1, 2] | last ; 'ab' | last ; [] | last ; '1.5' | float ; 'x' | float ; 'x' | float(2.5) ; 3 | float ; '1e3' | float ; none | float ; '%s-%s' | format(1, 2) ; '%(a)s' | format(a=1)
messages | groupby('role') | length ; messages | groupby('role') | map('first') | list ; (messages | groupby('role'))[0].grouper ; (messages | groupby('role'))[2].list | length ; (messages | groupby('n', default=0))[0][0] ; [{'a': 'x'}, {'a': 'X'}] | groupby('a') | length ; [{'a': 'x'}, {'a': 'X'}] | groupby('a', case_sensitive=true) | length ; (messages | groupby('role'))[0] | length
'a\nb\n\nc' | indent ; 'a\nb' | indent(2) ; 'a\nb' | indent(2, true) ; 'a\n\nb' | indent(2, blank=true) ; 'a\nb' | indent('>> ') ; 'a\n' | indent(2) ; '' | indent ; '' | indent(2, true) ; 'a\r\nb' | indent(1)
'42' | int ; 'x' | int ; 'x' | int(7) ; '3.9' | int ; 3.9 | int ; '0x1f' | int(0, 16) ; '1_000' | int ; ' 5 ' | int ; none | int ; true | int ; '-12' | int ; '0b11' | int(base=2) ; '1e3' | int ; missing | int
{'a': 1} | items | list ; missing | items | list ; [1, 2] | join ; [1, 2] | join(', ') ; messages | join('|', attribute='role') ; 'abc' | join('-') ; [none, true] | join(' ') ; ['<' | e, '<'] | join ; 'abc' | length ; {} | length ; 3 | length ; none | length ; ([1] | map('string')) | length ; 'abc' | list ; {'a': 1} | list ; 3 | list ; 'AB' | lower ; 3 | lower ; none | upper
messages | map(attribute='role') | list ; messages | map(attribute='n', default='-') | list ; messages | map('length') | list ; ['a', 'b'] | map('upper') | join ; [[1], [2]] | map('first') | list ; ['a'] | map('replace', 'a', 'b') | list ; [{'a': {'b': 1}}] | map(attribute='a.b') | list ; [[5, 6]] | map(attribute=1) | list ; [[5, 6]] | map(attribute='1') | first ; [1] | map | list ; none | map('upper') | list ; 0 | selectattr('x') | list ; none | reject('odd') | list ; none | sort ; none | sum ; none | batch(2) | list ; none | unique | list ; none | join ; [1] | map('nosuch') | list ; missing | map('upper') | list
[3, 1, 2] | max ; [3, 1, 2] | min ; ['b', 'A'] | min ; ['b', 'A'] | min(case_sensitive=true) ; [] | max ; messages | max(attribute='content') | attr('x') ; [{'v': 2}, {'v': 9}] | max(attribute='v') ; [1, 'a'] | max ; [1] | pprint ; 'a' | pprint ; [1, 2] | random is in [1, 2] ; [1, 0, 2] | select | list ; [1, 2, 3] | select('odd') | list ; [1, 2, 3] | reject('odd') | list ; [1, 2, 3] | select('gt', 1) | list ; messages | selectattr('n') | list | length ; messages | rejectattr('n', 'defined') | list | length ; messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list ; messages | selectattr('role', 'in', ['user', 'system']) | list | length ; [1] | select('nosuch') | list
'banana' | replace('a', 'o') ; 'banana' | replace('a', 'o', 1) ; 'banana' | replace('a', 'o', count=2) ; 12 | replace('1', '9') ; 'abc' | reverse ; [1, 2] | reverse | list ; {'a': 1, 'b': 2} | reverse | list ; 2.5 | round ; 3.5 | round ; 2.675 | round(2) ; 1234 | round(-2) ; 1250.5 | round(-2) ; 42 | round ; 2.1 | round(method='ceil') ; 2.9 | round(0, 'floor') ; 2.15 | round(1, 'ceil') ; 'a' | round ; 1.005 | round(2)
[1, 2, 3, 4, 5] | batch(2) | list ; [1, 2, 3] | batch(2, 'x') | list ; [1, 2, 3, 4, 5] | slice(2) | list ; [1, 2, 3, 4, 5] | slice(3, 'x') | list ; [3, 1, 2] | sort ; [3, 1] | sort(true) ; ['b', 'A', 'c'] | sort ; ['b', 'A', 'c'] | sort(case_sensitive=true) ; messages | sort(attribute='role') | map(attribute='role') | list ; messages | sort(attribute='role,content') | map(attribute='content') | list ; [1, 'a'] | sort ; {'b': 1, 'a': 2} | sort ; 1.50 | string ; [1] | string ; none | string ; '<p>a  b</p><!-- c -->&amp; &lt;' | striptags ; [1, 2.5] | sum ; [] | sum ; messages | sum(attribute='x') ; [{'v': 1}, {'v': 2}] | sum(attribute='v', start=10) ; [[1], [2]] | sum(start=[])
'hello wORLD-foo (bar)' | title ; "it's ok" | title ; {'a': 'é', 'b': [1, 2.0, true, none]} | tojson ; messages[1] | tojson ; messages[1] | tojson(ensure_ascii=true) ; '🦊' | tojson(ensure_ascii=true) ; {'b': 1, 'a': {'d': 1, 'c': 2}} | tojson(sort_keys=true) ; [1, {'a': 2}] | tojson(separators=(',', ':')) ; [1, [2], {}, []] | tojson(indent=2) ; {'a': [1, {'b': none}]} | tojson(indent=4) ; {'a': 1} | tojson(indent=0) ; {'a': 1} | tojson(indent='--') ; {'a': [1]} | tojson(2) ; {'a': [1]} | tojson(indent=1, separators=(', ', '=')) ; missing | tojson ; "</a>&'\u2028\x00\x7f\b\f" | tojson ; 1e20 | tojson ; 1e16 | tojson ; 1.0 | tojson ; {1: 2, none: 3, true: 4, 1.5: 5} | tojson ; (1, 2) | tojson ; range(2) | tojson ; {(1, 2): 3} | tojson ; ([1] | map('string')) | tojson ; ([1] | map('string') | list) | tojson
'  a ' | trim ; 'xax' | trim('x') ; none | trim ; 'hello wonderful world' | truncate(12) ; 'hello wonderful world' | truncate(12, true) ; 'hello world' | truncate(9) ; 'hello world' | truncate(9, leeway=0) ; 'hello wonderful world' | truncate(12, true, '~') ; 'abc' | truncate ; 'abcdef' | truncate(2) ; [1, 2, 1] | unique | list ; ['a', 'A'] | unique | list ; ['a', 'A'] | unique(true) | list ; messages | unique(attribute='role') | map(attribute='content') | list ; [[1], [1]] | unique | list ; 'ab' | upper ; 'a b/c?é' | urlencode ; {'a b': '1&2'} | urlencode ; [('k', 'v/w')] | urlencode ; 3 | urlencode ; 'a b_c  d-e' | wordcount ; '' | wordcount
'the quick brown fox jumps' | wordwrap(10) ; 'abcdefghijkl' | wordwrap(5) ; 'abcdefghijkl mn' | wordwrap(5, false) ; 'a b\n\nc d' | wordwrap(3) ; 'well-known words' | wordwrap(6) ; 'a b c' | wordwrap(3, wrapstring='|') ; {'class': 'a "b"', 'id': none} | xmlattr ; {} | xmlattr ; {'a': 1} | xmlattr(false) ; {'a b': 1} | xmlattr
range(3) ; range(3) | list ; range(1, 7, 2) | list ; range(3, 0, -1) | list ; range(0) | list ; range(1, 2, 0) ; range(100000) | length ; range(100001) | length ; range('a') ; range(2.0) ; dict(a=1) ; dict({'a': 1}, b=2) ; dict([('a', 1)]) ; dict() ; namespace(a=1).a ; namespace({'a': 2}).a ; namespace().x ; namespace(a=1)['a'] ; namespace(a=1) ; 'a' in namespace(a=1) ; namespace(a=1) | tojson ; lipsum is defined
strftime_now('%Y-%m-%d') ; strftime_now('%d %b %Y') ; strftime_now('%A, %B %d, %Y') ; strftime_now('%H:%M:%S.%f') ; strftime_now('%I %p') ; strftime_now('%-d/%-m/%y') ; strftime_now('%e %j %U %W %V %u %w %G') ; strftime_now('%c') ; strftime_now('%x %X %D %F %T %R') ; strftime_now('100%%') ; strftime_now('%Z%z|') ; strftime_now('') ; strftime_now(1) ; strftime_now('%_d %k %l')
raise_exception('no') ; messages | tojson ; messages ; messages[0] ; nosuch('x') ; 'x'() ; loop is defined ; self is defined ; 1 | nosuch ; (1 | nosuch) if false else 2 ; 'a' if 'b' ; namespace(_x=1) ; 5 | string | length ; [1, 2][0] + 1 ; messages | length - 1 ; -1 | abs ; -'a' ; +3 ; not missing is defined ; 'a' 'b' | upper ; 1.real ; {'a': 1} | length ; {'a': 1}|list|first|upper ; 100000000000000000000 ; 2 ** 100 ; '1' + '2' | int ; [*messages] ; a.b.c ; dict(**{'a': 1}) ; range(*[1, 3]) | list ; 10 // 3 * 3 + 10 % 3 ; (1 if true) ~ (2 if false)
10 // 0.1 ; 0.3 // 0.1 ; -7.5 // 2 ; 7.5 // -2 ; -1 % -0.5 ; 1.1 % 0.1 ; -1.1 % 0.1 ; 0.0 // -3 ; -0.5 // 2 ; 100 % (1 / 12)
[none, none] | sort ; [1, none] | sort ; [{}, {}] | sort(attribute='a') ; [{'a': 1}, {}] | sort(attribute='a') ; [[2], [1]] | sort(attribute=0)
tools[:1] ; messages[0][:1] ; (messages | length)[:1] ; (tools is none)[::-1] ; missing[:1] ; {}.keys()[:1] ; range(10)[5:2:-2] ; range(5)[3:1] ; range(5)[::-1] ; range(5, 0, -2)[-1:-2] ; range(0)[1:]
'x' % range(2) ; 'x' % {} ; 'x' % (1,) ; 3 | indent ; none | indent ; missing | indent ; none | wordwrap ; true | truncate ; missing | truncate(5) ; [1, 2] | truncate(5) ; [1, 2, 3] | truncate(3, leeway=0, end='') ; [1, 2, 3] | truncate(1, leeway=0, end='')
"""

# Whole templates, an empty line between them.
TEMPLATES = r"""
{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}

{% for m in messages %}{{ loop.previtem.role }}<{{ m.role }}>{{ loop.nextitem.role if loop.nextitem is defined }};{% endfor %}

{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{{ m.content }}{% else %}empty{% endfor %}

{% for m in [] %}x{% else %}empty{% endfor %}

{% for m in none %}x{% endfor %}

{% for m in missing %}x{% else %}nothing{% endfor %}

{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }} {% endfor %}

{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}

{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}

{% for c in 'añ' %}[{{ c }}]{% endfor %}

{% for i in range(6) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}

{% for n in [{'v': 1, 'c': [{'v': 2, 'c': []}]}] recursive %}{{ loop.depth }}{{ loop.depth0 }}:{{ n.v }}({{ loop(n.c) }}){% endfor %}

{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }} {% endfor %}

{% for i in [1, 2] %}{% for j in [3, 4] %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}

{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}

{% for i in [1] %}{% set y = 1 %}{% endfor %}{{ y is defined }}

{% if true %}{% set y = 1 %}{% endif %}{{ y }}

{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}

{% set ns = {} %}{% set ns.x = 1 %}

{% set ns = namespace() %}{% set ns._x = 1 %}

{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}

{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x is string }}

{% set x | upper | replace('A', 'z') %}abc{% endset %}{{ x }}

{% set x %}{% set inner = 1 %}{% endset %}{{ inner is defined }}

{% generation %}said {{ 1 }}{% endgeneration %}

{% generation %}{% set inside = 1 %}{% endgeneration %}{{ inside is defined }}

{% for m in messages %}{% if m.role == 'assistant' %}{%- generation -%}
  {{ m.content }}
{%- endgeneration -%}{% endif %}{% endfor %}

{% macro f(a, b='x', c=none) %}{{ a }}{{ b }}{{ c }}|{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(1, c=3) }}{{ f(b=1, a=2) }}{{ f() }}

{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}

{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=1) }}

{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }}{{ f() }}

{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(4) }}

{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}inner{% endcall %}

{% macro f() %}[{{ caller('x', 'y') }}]{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}

{% macro f() %}x{% endmacro %}{% call f() %}inner{% endcall %}

{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(20) }}

{% macro f() %}{{ y }}{% endmacro %}{% set y = 5 %}{{ f() }}{% for y in [6] %}{{ f() }}{% endfor %}

{% macro f() %}{% set z = 1 %}{% endmacro %}{{ f() }}{{ z is defined }}{{ f.name }}{{ f.arguments }}

{% macro f(a) %}x{% endmacro %}{{ f }}

{% filter upper %}ab{{ 'c' }}{% endfilter %}{% filter replace('a', 'b') | title %}aa bb{% endfilter %}

{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}

{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}

{% block title %}in {{ tools is none }}{% endblock %}{{ self.title() }}

{% set c = cycler('a', 'b', 'c') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}

{% set j = joiner(' | ') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}

{% set j = joiner() %}{{ j() }}a{{ j() }}b

{% print 1 + 1 %}

{% raw %}{{ not }} {% this %}{% endraw %}

a {%- raw -%} {{ x }} {%- endraw -%} b

{% if 0 %}a{% elif '' %}b{% elif [0] %}c{% else %}d{% endif %}

{% if true %}{{ 1 | nosuch if false else 'fine' }}{% endif %}

{% if false %}{{ 1 | nosuch }}{% endif %}ok

{% for x in [] %}{{ 1 | nosuch }}{% endfor %}ok

{% if false %}{% for x in [] %}{{ 1 | nosuch }}{% endfor %}{% endif %}ok

{% include 'other' %}

{% extends 'other' %}

{% import 'other' as o %}

{% do 1 %}

{% nosuch %}

{% if %}

{% endif %}

{{ 1

{% if true %}

{# never ends

{{ }}

{{ 1 2 }}

{{ 'open }}

{{ {'a': {'b': 1}}.a.b }}{{ {'a': 1} }}

{{ "%}" }}{{ '}}' }}{% set x = "{{ no }}" %}{{ x }}

{%- if true -%}  a  {%- endif -%}  b

  {%+ if true %}x{% endif +%}
y

{{- ' a ' -}} b {{- ' c ' -}}

   {{ 'kept' }}   
 {# gone #}
   {% set x = 1 %}   
z

a
    {% if true %}
  b
    {% endif %}
c

{% for i in [1, 2] -%}
  {{ i }}
{%- endfor %}

a {# b -#}   c {#- d #} e

{% if true %} {% endif %}|{{ '' }}|

{% set s = namespace(items=[]) %}{% for m in messages %}{% set s.items = s.items + [m.role] %}{% endfor %}{{ s.items }}

{% set ns = namespace(out='') %}{% for m in messages %}{% set ns.out = ns.out ~ m.role[0] %}{% endfor %}{{ ns.out }}

{% for m in messages %}{% set content = m.content if m.content is string else '' %}{{ '<|' + m.role + '|>' + content | trim }}{% endfor %}{% if tools %}t{% endif %}

{% set roles = messages | map(attribute='role') | list %}{{ roles }}{{ roles[0] == 'system' and roles | length > 1 }}

{% set x = [1, 2, 3] %}{% set y = x[1:] %}{{ x }}{{ y }}

{%- set last = namespace(i=messages|length - 1) %}
{%- for m in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if m.role == 'user' %}{%- set last.i = index %}{%- break %}{%- endif %}
{%- endfor %}
{{- last.i }}

{% set d = dict(a=1) %}{% for k in d %}{{ k }}{% endfor %}{{ dict(d, b=2) }}

{% macro show(v) %}{% if v is mapping %}{% for k in v | sort %}{{ k }}:{{ show(v[k]) }};{% endfor %}{% elif v is string %}{{ v }}{% elif v is iterable %}[{% for i in v %}{{ show(i) }}{{ ',' if not loop.last }}{% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{{ show({'b': [1, 'x', {'c': none}], 'a': true}) }}
"""

# What lines in this file cannot say.
MORE = [
    "a\r\nb\rc\n",
    "{% if true %}\r\nx\r\n{% endif %}\r\n",
    "{{ 'a\r\nb' }}",
    "x\n\n",
    "\n{% if true %}\ny\n{% endif %}\n\n",
    "{{ 'a\\\nb' }}",
    "\t {% if true %}\n\tz{% endif %}",
    "{% raw %}\n a\n{% endraw %}\nb",
    "{# c #}\n\nd",
    "",
    "\n",
    "{{ 'é' }}\u2028x",
]


def main():
    expressions = [part for line in EXPRESSIONS.strip().split("\n") for part in line.split(" ; ")]
    templates = ["{{ " + expression + " }}" for expression in expressions]
    templates += TEMPLATES.strip("\n").split("\n\n") + MORE
    env = environment(NOW)
    namespace = env.globals["namespace"]

    class Guarded(namespace):
        """transformers refuses names that begin with an underscore."""

        def __init__(*args, **kwargs):
            for name in dict(*args[1:], **kwargs):
                Guarded.check(name)
            namespace.__init__(*args, **kwargs)

        def __setitem__(self, name, value):
            Guarded.check(name)
            namespace.__setitem__(self, name, value)

        @staticmethod
        def check(name):
            if str(name).startswith("_"):
                raise ValueError(name)

    env.globals["namespace"] = Guarded
    features = []
    for source in templates:
        try:
            expected = env.from_string(source).render(messages=[prepared(m) for m in MESSAGES], tools=None)
        except Exception:
            expected = None
        if expected is not None and " at 0x" in expected:
            raise SystemExit(f"{source}: an address is no answer")
        features.append({"template": source, "expected": expected})
    path = pathlib.Path(__file__).parents[2] / "src/text/jinja/features.json"
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    path.write_text(f"[\n{lines}\n]\n")
    print(len(features), "features")


main()
