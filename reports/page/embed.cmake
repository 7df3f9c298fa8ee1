# Writes OUTPUT, a C++ file that holds the page's files as text: cmake -DOUTPUT=... -DFOLDER=...
# -DCHART_JS=... -P embed.cmake
set(text "#include \"page_assets.hpp\"\n\nnamespace tidemark {\n")
foreach(asset IN ITEMS "page_html;${FOLDER}/page.html" "page_css;${FOLDER}/page.css"
    "page_js;${FOLDER}/page.js" "chart_js;${CHART_JS}")
  list(GET asset 0 name)
  list(GET asset 1 path)
  file(READ ${path} content)
  string(APPEND text
    "\nstd::string_view ${name}() {\n  return R\"tidemark(" "${content}" ")tidemark\";\n}\n")
endforeach()
string(APPEND text "\n}  // namespace tidemark\n")
file(WRITE ${OUTPUT} "${text}")
