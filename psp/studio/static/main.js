const canvas=document.getElementById('sketch'),ctx=canvas.getContext('2d');ctx.fillStyle='#fff';ctx.fillRect(0,0,256,256);ctx.lineWidth=2;ctx.lineCap='round';
let down=false;const at=e=>{const r=canvas.getBoundingClientRect();return[(e.clientX-r.left)/r.width*256,(e.clientY-r.top)/r.height*256]};
canvas.onpointerdown=e=>{down=true;canvas.setPointerCapture(e.pointerId);ctx.beginPath();ctx.moveTo(...at(e))};
canvas.onpointermove=e=>{if(down){ctx.lineTo(...at(e));ctx.stroke()}};
canvas.onpointerup=async()=>{down=false;const blob=await new Promise(r=>canvas.toBlob(r));const form=new FormData();form.append('image',blob);const t=performance.now();
const answer=await(await fetch('api/generate',{method:'POST',body:form})).json();document.getElementById('say').textContent=answer.error||`${Math.round(performance.now()-t)} ms`;
if(answer.pictures)document.getElementById('face').src='data:image/png;base64,'+answer.pictures[0].png};
